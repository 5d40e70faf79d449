"""Chat templates for models that came without one. Kept as Jinja, so that they travel with a model.

None ends its generation prompt with a space: the space belongs to the answer's first token.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from backflip.errors import UserError

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
ENDINGS = (".jinja", ".jinja2", ".j2")


def template_text(given: str) -> str:
    """The name of a built-in template as it is; of a file, its Jinja text; Jinja text itself.

    Raises UserError where there is no such file or name, or where it is no Jinja.
    """
    if given in BUILT_IN:
        return given
    if "{{" in given or "{%" in given:
        _check_jinja(given, "template")
        return given
    path = Path(given).expanduser()
    if path.is_file():
        return _read(path)
    known = f"{', '.join(BUILT_IN)}, or a file of Jinja such as mine.jinja"
    if given.endswith(ENDINGS) or path.parent != Path():
        reason = "is a folder" if path.is_dir() else "does not exist"
        raise UserError(f"template file {given} {reason}. Give one that does: {known}.")
    raise UserError(f"template={given!r} is not known; use {known}.")


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"template file {path} cannot be read: {error}.") from error
    if not text.strip():
        raise UserError(f"template file {path} is empty. Write a chat template in Jinja.")
    if "{{" not in text and "{%" not in text:
        seen = " ".join(text.split())[:40]
        raise UserError(
            f"template file {path} is no Jinja: it has no {{{{ … }}}}, and begins with {seen!r}."
        )
    _check_jinja(text, str(path))
    return text


def _check_jinja(text: str, name: str) -> None:
    """Raise UserError with the line of what the language of templates does not know."""
    from jinja2.exceptions import TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    extensions: list[Any] = [_generation(), "jinja2.ext.loopcontrols"]
    try:
        ImmutableSandboxedEnvironment(extensions=extensions).compile(text)
    except TemplateSyntaxError as error:
        place = f"{name}:{error.lineno}"
        raise UserError(f"{place} is not Jinja: {error.message}. Correct the line.") from error


def _generation() -> Any:
    """The tag of transformers that marks the assistant's text, for an environment that parses."""
    from jinja2 import nodes
    from jinja2.ext import Extension
    from jinja2.parser import Parser

    class Generation(Extension):
        tags = {"generation"}  # noqa: RUF012 (as jinja2 declares it)

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    return Generation
