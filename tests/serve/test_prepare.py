"""What a client is given of the model so that it can work beside it."""

import pytest
from jinja2 import TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

pytest.importorskip("fastapi")

from smelt.serve.prepare import plain_jinja
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.chat import TEMPLATES, ChatTemplate

MESSAGES = [
    {"role": "user", "content": "Where?"},
    {"role": "assistant", "content": "There."},
    {"role": "user", "content": "When?"},
]


@pytest.mark.parametrize("name", TEMPLATES)
def test_any_jinja_reads_the_template_that_clients_get(name: str) -> None:
    published = TEMPLATES[name]
    special = tuple(dict.fromkeys(["<|endoftext|>", *published.marks]))
    tokenizer = train_bpe(["a"], vocab_size=256 + len(special), special=special)
    template = ChatTemplate(tokenizer, published.jinja)
    plain = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    with pytest.raises(TemplateSyntaxError, match="generation"):
        plain.from_string(published.jinja)
    given = {**template.tokens, "messages": MESSAGES, "add_generation_prompt": True}
    assert plain.from_string(plain_jinja(published.jinja)).render(given) == template.text(MESSAGES, add_reply=True)
