"""Generation by a server that speaks OpenAI's protocol, as vLLM does."""
