"""Chat templates for models that came without one. Kept as Jinja, so that they travel with a model.

None ends its generation prompt with a space: the space belongs to the answer's first token.
"""

from __future__ import annotations

CHATML = """{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' \
+ message['content'] + '<|im_end|>\\n' }}{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

HH = """{% for message in messages %}{% if message['role'] == 'system' %}\
{{ message['content'] }}{% elif message['role'] == 'assistant' %}\
{{ '\\n\\nAssistant: ' + message['content'] + eos_token }}{% else %}\
{{ '\\n\\nHuman: ' + message['content'] }}{% endif %}{% endfor %}\
{% if add_generation_prompt %}{{ '\\n\\nAssistant:' }}{% endif %}"""

PLAIN = """{% for message in messages %}{% if message['role'] == 'assistant' %}\
{{ ' ' + message['content'] + eos_token }}{% else %}\
{% if not loop.first %}{{ '\\n' }}{% endif %}{{ message['content'] }}{% endif %}{% endfor %}"""

BUILT_IN = {"chatml": CHATML, "hh": HH, "plain": PLAIN}
"""By the name that a recipe gives: ``template=chatml``. ``hh`` is the form of HH-RLHF, ``plain``
is text and its continuation."""
