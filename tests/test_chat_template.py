"""Chat templates: the same text as transformers writes, and no template harms by time, memory or Python's internals."""

import time
from importlib.util import find_spec
from pathlib import Path

import pytest
from jinja2.exceptions import TemplateError

from poise.chat_template import render
from poise.errors import ModelError

ASKED = [
    {"role": "user", "content": "What is 2 + 2?\n"},
    {"role": "assistant", "content": "<think>\nadd\n</think>\n\nFour, that is “4”."},
    {"role": "user", "content": "  And 3?"},
]
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
SIXTY = "{% set ns = namespace(x='aa') %}{% for i in range(60) %}"
BOMBS = {
    "a long string": "{{ 'A' * 10**9 }}",
    "a long list": "{{ [1] * 10**9 }}",
    "loops in loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "calls that call twice": "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "calls without end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a loop into itself": "{% for m in messages recursive %}{{ loop(messages) }}{{ loop(messages) }}{% endfor %}",
    "text that doubles": SIXTY + "{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "text that is joined": SIXTY + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "a block that doubles": SIXTY + "{% set z %}{{ ns.x }}{{ ns.x }}{% endset %}{% set ns.x = z %}{% endfor %}",
    "lists in lists": SIXTY + "{% set ns.x = [ns.x, ns.x] %}{% endfor %}",
    "a wide format": "{{ '%1000000000d' % 1 }}",
    "a width beside it": "{{ '%*d' % (1000000000, 1) }}",
    "a wide field": "{{ '{:>1000000000}'.format(1) }}",
    "a nested width": "{{ '{:>{}}'.format(1, 1000000000) }}",
    "a wide column": "{{ 'ab'.ljust(1000000000) }}",
    "replacements": "{{ 'a'.replace('', 'b' * 100000).replace('', 'c' * 100000) }}",
    "separators": "{{ range(99999) | join('x' * 10000) }}",
    "huge numbers": "{% set ns = namespace(x=99999) %}{% for i in range(60) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "wide JSON": "{{ messages | tojson(indent=1000000000) }}",
    "a wide date": "{{ strftime_now('%9999999Y') }}",
    "bytes": "{{ (5).to_bytes(1000000000, 'big') }}",
    "sums of ranges": "{% for i in range(99999) %}{{ range(99999) | sum }}{% endfor %}",
    "deep brackets": "{{" + "(" * 5000 + "1" + ")" * 5000 + "}}",
    "a long template": "{{ messages }}" * 40_000,
    "classes": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "globals": "{{ cycler.__init__.__globals__ }}",
    "Python by name": "{{ messages['__class__'].__mro__ }}",
    "changed messages": "{{ messages.append(1) }}",
    "private names": "{{ namespace(_attrs=1) }}",
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_template_that_harms_is_stopped(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poise.template_sandbox.SECONDS", 0.2)
    started = time.thread_time()
    with pytest.raises(ModelError, match="the chat template was stopped: "):
        render(BOMBS[name], ASKED)
    assert time.thread_time() - started < 1


def test_no_text_a_bomb_makes_fills_memory() -> None:
    import tracemalloc

    tracemalloc.start()
    for name in ("a long string", "text that doubles", "lists in lists", "replacements", "separators"):
        with pytest.raises(ModelError):
            render(BOMBS[name], ASKED)
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


def test_a_bomb_that_one_row_sets_off_is_stopped_at_that_row() -> None:
    hidden = "{% for m in messages %}{% if 'now' in m.content %}{{ 'A' * 10**9 }}{% endif %}{{ m.content }}{% endfor %}"
    assert render(hidden, [{"role": "user", "content": "later"}]) == "later"
    with pytest.raises(ModelError, match="more text"):
        render(hidden, [{"role": "user", "content": "now"}])


def test_what_a_template_refuses_is_its_own_error_and_long_texts_are_none() -> None:
    with pytest.raises(TemplateError, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}", ASKED)
    long = [{"role": "user", "content": "word " * 400_000}]
    assert len(render("{% for m in messages %}{{ m.role + ': ' + m.content | trim }}{% endfor %}", long)) == 2_000_005


@pytest.mark.skipif(find_spec("trl") is None, reason="trl is not installed")
def test_templates_of_many_families_render_as_in_transformers() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    spec = find_spec("trl")
    assert spec and spec.origin
    compared = 0
    files = sorted((Path(spec.origin).parent / "chat_templates").glob("*.jinja"))
    for file in (file for file in files if not file.stem.endswith("_training")):  # the same with marks around answers
        template = file.read_text(encoding="utf-8")
        for messages, generation in ((ASKED, True), (ASKED[:2], False)):
            try:
                ((expected,), _) = render_jinja_template(
                    [messages], chat_template=template, add_generation_prompt=generation, **TOKENS
                )
            except TemplateError:
                with pytest.raises(TemplateError):
                    render(template, messages, generation=generation, tokens=TOKENS)
                continue
            assert render(template, messages, generation=generation, tokens=TOKENS) == expected, file.name
            compared += 1
    assert compared > 40
