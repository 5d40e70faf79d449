"""A server that speaks as vLLM's does, over a real socket, with answers of our own engine."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from backflip.generate.engine import Completion, SamplingParams
from backflip.generate.torch.engine import TorchEngine
from backflip.generate.vllm.ways import Receiver
from tests.generate.reference import words

Faults = list[str]
TOKENS = "/inference/v1/generate"
SECONDS = {"hang": 3.0, "slow": 1.0}
"""That faults hold an answer back."""


class Transfer:
    """Weights of a learner: vLLM's verbs, in the order that it asks for."""

    ORDER = (
        "/pause?mode=keep", "/start_weight_update", "/update_weights", "/finish_weight_update",
        "/reset_prefix_cache", "/resume",
    )  # fmt: skip

    def __init__(self, engine: TorchEngine) -> None:
        self.engine, self.version = engine, "default"
        self.met, self.done, self.updates = False, [], 0
        self.on = self.takes = self.counts = True
        self.receiver = Receiver(0, torch.device("cpu"))
        self.goes_on = threading.Event()
        self.goes_on.set()

    def knows(self, path: str) -> bool:
        """Whether the server was started with the back end."""
        return self.on and path in (*self.ORDER, "/init_weight_transfer_engine")

    def do(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/init_weight_transfer_engine":
            self.receiver.meet(**body["init_info"]["how"])
            self.met = True
            return 200, {}
        if not self.met or path != self.ORDER[len(self.done)]:
            return 400, {"error": {"message": f"{path} after {self.done}"}}
        self.done.append(path)
        if path == self.ORDER[0]:
            self.goes_on.clear()
        if path == "/update_weights" and self.takes:
            loaded = dict(self.receiver.weights(body["update_info"]["of"]))
            missing, strange = self.engine.model.load_state_dict(loaded, strict=False)
            tied = {"lm_head.weight"} if self.engine.model.config.tie_word_embeddings else set()
            assert not strange
            assert set(missing) <= tied, missing
        if path == "/finish_weight_update" and self.counts:
            self.version = body["weight_version"]
        if path == "/reset_prefix_cache":
            self.engine.sync()
        if path == "/resume":
            self.done, self.updates = [], self.updates + 1
            self.goes_on.set()
        return 200, {}


class Vllm:
    """What is served, under which names, and what goes wrong at the next requests."""

    def __init__(self, model: Any, *, name: str = "tiny", tokenizer: Any = None) -> None:
        self.base, self.tokenizer = model, tokenizer
        self.decode = words if tokenizer is None else tokenizer.decode
        self.engines = {name: TorchEngine(model, decode=self.decode)}
        self.processed, self.max_model_len, self.key = False, 4096, ""
        self.tokenizes = self.loads = True
        self.faults: Faults = []
        self.asked: list[dict[str, Any]] = []
        self.transfer = Transfer(self.engines[name])
        self.lock = threading.RLock()
        self.scales_out = False
        self.asleep = set[str]()
        self.url = ""

    # what the endpoints do

    def get(self, path: str) -> tuple[int, Any]:
        if path == "/health":
            return 200, ""
        if path == "/get_world_size":
            return 200, {"world_size": 1}
        if path == "/is_sleeping":
            return 200, {"is_sleeping": bool(self.asleep)}
        if path == "/weight_info":
            return 200, {"weight_version": self.transfer.version}
        if path != "/v1/models":
            return 404, {"detail": "Not Found"}
        cards = [{"id": name, "max_model_len": self.max_model_len} for name in self.engines]
        return 200, {"object": "list", "data": cards}

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/tokenize" and self.tokenizes:
            return 200, {"tokens": self.tokenizer.encode(body["prompt"], add_special_tokens=False)}
        if path == "/v1/load_lora_adapter" and self.loads:
            adapted = PeftModel.from_pretrained(copy.deepcopy(self.base), body["lora_path"])
            self.engines[body["lora_name"]] = TorchEngine(adapted.eval(), decode=self.decode)
            return 200, f"Success: LoRA adapter '{body['lora_name']}' added successfully."
        if path == "/v1/unload_lora_adapter" and self.loads:
            del self.engines[body["lora_name"]]
            return 200, "Success"
        if path == "/v1/completions" or (path == TOKENS and self.scales_out):
            return self.complete(body) if path != TOKENS else self.flown(body)
        if (rests := path.startswith(("/sleep", "/wake_up"))) or self.transfer.knows(path):
            return self.rest(path) if rests else self.moved(path, body)
        return 404, {"detail": "Not Found"}

    def complete(self, body: dict[str, Any]) -> tuple[int, Any]:
        if body["model"] not in self.engines:
            message = f"The model `{body['model']}` does not exist."
            return 404, {"error": {"message": message, "type": "NotFoundError", "code": 404}}
        self.asked.append(body)
        assert not self.asleep, "it would hang"
        engine, seed = self.engines[body["model"]], body["seed"]
        bias = {int(token): amount for token, amount in (body["logit_bias"] or {}).items()}
        params = SamplingParams(
            max_tokens=body["max_tokens"],
            min_tokens=body["min_tokens"],
            temperature=body["temperature"],
            top_p=body["top_p"],
            top_k=None if body["top_k"] < 1 else body["top_k"],
            stop_tokens=tuple(body["stop_token_ids"]),
            stop_strings=tuple(body["stop"]),
            logit_bias=bias,
        )
        with self.lock:
            drawn = [
                engine.generate([body["prompt"]], params, seed=seed + child)[0]
                for child in range(body["n"])
            ]
        choices = [self.choice(engine.model, body, i, one) for i, one in enumerate(drawn)]
        return 200, {"object": "text_completion", "model": body["model"], "choices": choices}

    def moved(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        assert "weights" not in self.asleep
        with self.lock:
            return self.transfer.do(path, body)

    def rest(self, path: str) -> tuple[int, Any]:
        """Memory that is let go of by level 1, and taken again by its tag."""
        if path == "/sleep?level=1":
            self.asleep = {"weights", "kv_cache"}
        else:
            self.asleep.remove(path.removeprefix("/wake_up?tags="))
        return 200, {}

    def flown(self, body: dict[str, Any]) -> tuple[int, Any]:
        return 200, {"choices": [self.drawn(body, n) for n in range(body["sampling_params"]["n"])]}

    def drawn(self, body: dict[str, Any], number: int) -> dict[str, Any]:
        """An answer token by token, between which weights may be taken over."""
        asked, spans, content = body["sampling_params"], list[dict[str, Any]](), list[Any]()
        given = SamplingParams(max_tokens=1, temperature=asked["temperature"])
        tokens, stopped = list[int](), False
        while len(tokens) < asked["max_tokens"] and not stopped:
            self.transfer.goes_on.wait()
            with self.lock:
                if not self.transfer.goes_on.is_set():
                    continue
                row, seed = [*body["token_ids"], *tokens], asked["seed"] + number
                (one,) = self.transfer.engine.generate([row], given, seed=1000 * seed + len(tokens))
                version = self.transfer.version
            if not spans or spans[-1]["version"] != version:
                spans.append({"version": version, "start": len(tokens)})
            tokens += one.tokens
            spans[-1]["end"] = len(tokens)
            content.append({"logprob": one.logp[0]})
            stopped = one.tokens[0] in asked["stop_token_ids"]
            time.sleep(0.01)
        reason, said = "stop" if stopped else "length", {"content": content}
        found = {"index": number, "token_ids": tokens, "logprobs": said, "finish_reason": reason}
        return found | {"weight_versions": spans}

    def choice(self, model: Any, body: Any, index: int, answer: Completion) -> dict[str, Any]:
        temperature = (body["temperature"] if self.processed else 0) or 1.0
        row = torch.tensor([[*body["prompt"], *answer.tokens]])
        with torch.no_grad():
            logits = model(input_ids=row, use_cache=False).logits[0, len(body["prompt"]) - 1 : -1]
        logp = (logits.float() / temperature).log_softmax(-1)
        own = logp.gather(1, torch.tensor(answer.tokens)[:, None])[:, 0].tolist()
        top, which = logp.max(-1)
        named = [f"token_id:{token}" for token in answer.tokens]
        tops = [
            {f"token_id:{int(k)}": float(v), name: mine}
            for k, v, name, mine in zip(which, top, named, own, strict=True)
        ]
        stopped = answer.finish_reason != "length"
        return {
            "index": index,
            "text": self.decode(answer.tokens),
            "token_ids": answer.tokens,
            "prompt_token_ids": body["prompt"],
            "finish_reason": "stop" if stopped else "length",
            "stop_reason": answer.tokens[-1] if answer.finish_reason == "stop" else None,
            "logprobs": {"tokens": named, "token_logprobs": own, "top_logprobs": tops},
        }


def in_its_place(folder: Path) -> tuple[str, Path]:
    """(an interpreter that finds a program in vLLM's place, the file of its faults)."""
    script, faults, root = folder / "python", folder / "faults", Path(__file__).parents[2]
    path = os.pathsep.join(str(p) for p in (root / "tests/generate/fake", root / "src", root))
    lines = ["#!/bin/sh", f"export PYTHONPATH='{path}' FAKE_VLLM='{faults}' OMP_NUM_THREADS=1"]
    script.write_text("\n".join([*lines, f"exec '{sys.executable}' \"$@\"\n"]))
    script.chmod(0o755)
    return str(script), faults


def _handler(served: Vllm) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.say(*served.get(self.path))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            sampled = self.path == "/v1/completions" and body["max_tokens"] > 1
            fault = served.faults.pop(0) if sampled and served.faults else ""
            if served.key and self.headers.get("Authorization") != f"Bearer {served.key}":
                return self.say(401, {"error": "Unauthorized"})
            if fault in SECONDS:
                time.sleep(SECONDS[fault])
            if fault.isdecimal():
                return self.say(int(fault), {"error": {"message": "out of memory"}})
            if fault in ("drop", "hang"):  # whoever hung computes nothing behind the test
                return self.connection.close()
            status, answer = served.post(self.path, body)
            return self.say(status, spoilt(answer, fault), cut=fault == "cut")

        def say(self, status: int, answer: Any, *, cut: bool = False) -> None:
            raw = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(raw[: len(raw) // 2] if cut else raw)
            self.close_connection = True

    return Handler


def spoilt(answer: Any, fault: str) -> Any:
    """The answer with one thing wrong in its first choice, or in itself."""
    if fault == "html":
        return "<html>Bad gateway</html>"
    first = answer["choices"][0] if isinstance(answer, dict) and "choices" in answer else {}
    changes: dict[str, dict[str, Any]] = {
        "no ids": {"token_ids": None, "logprobs": first.get("logprobs", {}) | {"tokens": ["a"]}},
        "old ids": {"token_ids": None},
        "far ids": {"token_ids": [10_000] * len(first.get("token_ids", []))},
        "other prompt": {"prompt_token_ids": [1, 2]},
        "no logp": {"logprobs": None},
        "bad logp": {"logprobs": {"token_logprobs": [0.7] * len(first.get("token_ids", []))}},
        "short": {"token_ids": first.get("token_ids", [])[:1], "finish_reason": "length"},
        "abort": {"finish_reason": "abort"},
        "same index": {"index": 1},
    }
    if fault == "same":
        return answer | {"choices": [first | {"index": i} for i in range(len(answer["choices"]))]}
    if fault == "fewer":
        return answer | {"choices": answer["choices"][1:]}
    return (
        answer | {"choices": [first | changes[fault], *answer["choices"][1:]]}
        if (fault in changes)
        else answer
    )


@contextlib.contextmanager
def serving(served: Vllm, port: int = 0) -> Iterator[Vllm]:
    """Answer at ``served.url`` for as long as the block lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", port), _handler(served))
    server.daemon_threads = True
    served.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
