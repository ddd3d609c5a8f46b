"""The published chat formats by hand: what is written, what is learned, and what each refuses."""

import itertools

import pytest

from smelt.core.errors import TokenizerError
from smelt.tokenizers.base import END_OF_TEXT, SPECIAL, TURN_END
from smelt.tokenizers.bpe_train import train_bpe
from smelt.tokenizers.chat import TEMPLATES, ChatTemplate, named_template
from smelt.tokenizers.pipeline import Pipeline

SYSTEM = {"role": "system", "content": "Be kind."}
USER = {"role": "user", "content": "Where is the mill?"}
REPLY = {"role": "assistant", "content": "By the river."}
THANKS = {"role": "user", "content": "Thanks"}
CALL = {"id": "abcdefgh1", "type": "function", "function": {"name": "find", "arguments": {"what": "mill"}}}
TOOL = {"type": "function", "function": {"name": "find", "description": "Find it", "parameters": {"type": "object"}}}
TOOL_JSON = (
    '{"type": "function", "function": {"name": "find", "description": "Find it", "parameters": {"type": "object"}}}'
)
RESULT = {"role": "tool", "content": '{"at": "river"}', "tool_call_id": "abcdefgh1"}
MARKS = tuple(
    dict.fromkeys(
        mark
        for published in TEMPLATES.values()
        for mark in (*SPECIAL, *published.marks, *published.begin, *published.end, *published.stops)
    )
)

# The learned parts stand between ^.
DIALOGUE = {
    "chatml": "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nWhere is the mill?<|im_end|>\n"
    "<|im_start|>assistant\n^By the river.<|im_end|>^\n<|im_start|>user\nThanks<|im_end|>\n<|im_start|>assistant\n",
    "llama2": "<s>[INST] <<SYS>>\nBe kind.\n<</SYS>>\n\nWhere is the mill? [/INST]^ By the river. </s>^"
    "<s>[INST] Thanks [/INST]",
    "llama3": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nWhere is the mill?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n^By the river.<|eot_id|>^"
    "<|start_header_id|>user<|end_header_id|>\n\nThanks<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "llama3.1": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
    "Today Date: 26 Jul 2024\n\nBe kind.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nWhere is the mill?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n^By the river.<|eot_id|>^"
    "<|start_header_id|>user<|end_header_id|>\n\nThanks<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "mistral": "<s>[INST] Where is the mill?[/INST]^ By the river.</s>^[INST] Be kind.\n\nThanks[/INST]",
    "qwen": "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nWhere is the mill?<|im_end|>\n"
    "<|im_start|>assistant\n^By the river.<|im_end|>^\n<|im_start|>user\nThanks<|im_end|>\n<|im_start|>assistant\n",
    "qwen3": "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nWhere is the mill?<|im_end|>\n"
    "<|im_start|>assistant\n^By the river.<|im_end|>^\n<|im_start|>user\nThanks<|im_end|>\n<|im_start|>assistant\n",
    "glm4": "[gMASK]<sop><|system|>\nBe kind.<|user|>\nWhere is the mill?<|assistant|>^\nBy the river.<|user|>^\nThanks"
    "<|assistant|>",
    "gemma": "<bos><start_of_turn>user\nWhere is the mill?<end_of_turn>\n"
    "<start_of_turn>model\n^By the river.<end_of_turn>^\n<start_of_turn>user\nThanks<end_of_turn>\n"
    "<start_of_turn>model\n",
    "alpaca": "Be kind.\n\n### Instruction:\nWhere is the mill?\n\n### Response:\n^By the river.</s>^\n\n"
    "### Instruction:\nThanks\n\n### Response:\n",
    "vicuna": "Be kind. USER: Where is the mill? ASSISTANT:^ By the river.</s>^USER: Thanks ASSISTANT:",
}
TOOL_USE = {
    "llama3.1": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nEnvironment: ipython\n"
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nGiven the following functions, please respond with a JSON for a "
    "function call with its proper arguments that best answers the given prompt.\n\nRespond in the format "
    '{"name": function name, "parameters": dictionary of argument name and its value}.Do not use variables.\n\n'
    '{\n    "type": "function",\n    "function": {\n        "name": "find",\n        "description": "Find it",\n'
    '        "parameters": {\n            "type": "object"\n        }\n    }\n}\n\nWhere is the mill?<|eot_id|>'
    '<|start_header_id|>assistant<|end_header_id|>\n\n^{"name": "find", "parameters": {"what": "mill"}}<|eot_id|>^'
    '<|start_header_id|>ipython<|end_header_id|>\n\n"{\\"at\\": \\"river\\"}"<|eot_id|>'
    "<|start_header_id|>assistant<|end_header_id|>\n\n^By the river.<|eot_id|>^",
    "mistral": "<s>[AVAILABLE_TOOLS] [" + TOOL_JSON + "][/AVAILABLE_TOOLS][INST] Where is the mill?[/INST]"
    '^[TOOL_CALLS] [{"name": "find", "arguments": {"what": "mill"}, "id": "abcdefgh1"}]</s>^'
    '[TOOL_RESULTS] {"content": {"at": "river"}, "call_id": "abcdefgh1"}[/TOOL_RESULTS]^ By the river.</s>^',
    "glm4": "[gMASK]<sop><|system|>\n你是一个名为 ChatGLM 的人工智能助手。"
    "你是基于智谱AI训练的语言模型 GLM-4 模型开发的，"
    "你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具\n\n## find\n\n{\n"
    '    "name": "find",\n    "description": "Find it",\n    "parameters": {\n        "type": "object"\n    }\n}\n'
    "在调用上述函数时，请使用 Json 格式表示调用的参数。<|user|>\nWhere is the mill?<|assistant|>"
    '^find\n{"what": "mill"}<|observation|>^\n{"at": "river"}<|assistant|>^\nBy the river.<|user|>^',
}
for name, start, end in (
    (
        "qwen",
        "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.\n\n",
        "By the river.",
    ),
    ("qwen3", "", "<think>\n\n</think>\n\nBy the river."),
):
    TOOL_USE[name] = (
        f"<|im_start|>system\n{start}# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n" + TOOL_JSON + "\n"
        "</tools>\n\nFor each function call, return a json object with function name and arguments within "
        '<tool_call></tool_call> XML tags:\n<tool_call>\n{"name": <function-name>, "arguments": <args-json-object>}\n'
        "</tool_call><|im_end|>\n<|im_start|>user\nWhere is the mill?<|im_end|>\n<|im_start|>assistant\n"
        '^<tool_call>\n{"name": "find", "arguments": {"what": "mill"}}\n</tool_call><|im_end|>^\n'
        '<|im_start|>user\n<tool_response>\n{"at": "river"}\n</tool_response><|im_end|>\n'
        f"<|im_start|>assistant\n^{end}<|im_end|>^\n"
    )


@pytest.fixture(scope="module")
def marked() -> Pipeline:
    """Return a tokenizer with every format's marks."""
    return train_bpe(["the mill by the river"] * 2, vocab_size=260 + len(MARKS), special=MARKS)


def template_of(name: str, tokenizer: Pipeline) -> ChatTemplate:
    return ChatTemplate(tokenizer, named_template(name))


def shown(template: ChatTemplate, ids: list[int], mask: list[int]) -> str:
    """Return the text with ^ at the borders of the learned parts."""
    runs = itertools.groupby(zip(ids, mask, strict=True), key=lambda pair: pair[1])
    texts = [(counts, template.tokenizer.decode([token for token, _ in pairs])) for counts, pairs in runs]
    return "".join(f"^{text}^" if counts else text for counts, text in texts)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_dialogue(name: str, marked: Pipeline) -> None:
    template = template_of(name, marked)
    messages = [USER, REPLY, THANKS] if name == "gemma" else [SYSTEM, USER, REPLY, THANKS]
    assert shown(template, *template.render(messages, add_reply=True)) == DIALOGUE[name]


@pytest.mark.parametrize("name", TOOL_USE)
def test_tools(name: str, marked: Pipeline) -> None:
    template = template_of(name, marked)
    messages = [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}, RESULT, REPLY]
    assert shown(template, *template.render(messages, tools=[TOOL])) == TOOL_USE[name]


def test_thoughts_are_shown_after_the_last_question_only(marked: Pipeline) -> None:
    template = template_of("qwen3", marked)
    thinking = REPLY | {"reasoning_content": "\nA mill...\n"}
    ids, mask = template.render([USER, thinking, USER, thinking])
    assert shown(template, ids, mask).split("assistant\n")[1:] == [
        "^By the river.<|im_end|>^\n<|im_start|>user\nWhere is the mill?<|im_end|>\n<|im_start|>",
        "^<think>\nA mill...\n</think>\n\nBy the river.<|im_end|>^\n",
    ]
    inline = REPLY | {"content": "<think>\nA mill...\n</think>\n\nBy the river."}
    assert template.render([USER, inline, USER, inline]) == (ids, mask)
    asked = [template.text([USER], add_reply=True, options={"enable_thinking": on}) for on in (True, False)]
    assert asked[1] == asked[0] + "<think>\n\n</think>\n\n"


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_prompt_and_its_reply_are_the_conversation(name: str, marked: Pipeline) -> None:
    template = template_of(name, marked)
    prompt, _ = template.render([USER], add_reply=True)
    whole, mask = template.render([USER, REPLY])
    assert whole[: len(prompt)] == prompt
    assert not any(mask[: len(prompt)]) and mask[len(prompt)]
    last = max(place for place, counts in enumerate(mask) if counts)
    assert whole[last] in template.stop_ids  # the model learns to end its turn


ALTERNATE = "the chat template refuses this conversation: after an optional system message, user and assistant must"


@pytest.mark.parametrize(
    ("name", "messages", "message"),
    [
        *((name, [USER, USER], ALTERNATE) for name in ("llama2", "mistral", "alpaca", "vicuna")),
        *((name, [REPLY], ALTERNATE) for name in ("llama2", "mistral", "alpaca", "vicuna")),
        ("gemma", [SYSTEM, USER], "refuses this conversation: this format has no system role"),
        ("gemma", [USER, USER], "refuses this conversation: user and assistant must alternate"),
        ("llama2", [USER, SYSTEM], ALTERNATE),
        ("llama3", [USER, RESULT], "message 2 of 2: unknown role 'tool'"),
        (
            "mistral",
            [USER, REPLY | {"tool_calls": [CALL | {"id": "1"}]}],
            "the id of a tool call must have 9 characters",
        ),
        ("llama3.1", [USER, REPLY | {"tool_calls": [CALL, CALL]}], "this format makes one call at a time"),
        ("mistral", [USER, RESULT | {"tool_call_id": None}], "the id of a tool call must have 9 characters"),
        ("llama2", [USER, REPLY | {"tool_calls": [CALL]}], "message 2 of 2 .assistant. has tool_calls, for which"),
    ],
)
def test_what_a_format_refuses(name: str, messages: list, message: str, marked: Pipeline) -> None:
    with pytest.raises(TokenizerError, match=message):
        template_of(name, marked).render(messages)


@pytest.mark.parametrize("name", ["chatml", "llama2", "llama3", "gemma", "alpaca", "vicuna"])
def test_no_place_for_tools(name: str, marked: Pipeline) -> None:
    with pytest.raises(
        TokenizerError, match="the request has tools, for which this chat template has no place"
    ) as caught:
        template_of(name, marked).render([USER], tools=[TOOL])
    assert caught.value.accepted == "a template with one: llama3.1, mistral, qwen, qwen3, glm4"


STOPS = {
    "chatml": ["<|im_end|>", END_OF_TEXT],
    "llama2": ["</s>", END_OF_TEXT],
    "llama3": ["<|eot_id|>", "<|end_of_text|>", END_OF_TEXT],
    "llama3.1": ["<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", END_OF_TEXT],
    "mistral": ["</s>", END_OF_TEXT],
    "qwen": ["<|im_end|>", END_OF_TEXT],
    "qwen3": ["<|im_end|>", END_OF_TEXT],
    "glm4": ["<|user|>", "<|observation|>", END_OF_TEXT],
    "gemma": ["<end_of_turn>", "<eos>", END_OF_TEXT],
    "alpaca": ["</s>", END_OF_TEXT],
    "vicuna": ["</s>", END_OF_TEXT],
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_stop_ids(name: str, marked: Pipeline) -> None:
    assert [marked.decode([token]) for token in template_of(name, marked).stop_ids] == STOPS[name]


@pytest.mark.parametrize("name", [name for name, published in TEMPLATES.items() if published.marks])
def test_missing_marks_are_named(name: str) -> None:
    marks = TEMPLATES[name].marks
    poor = train_bpe([], vocab_size=256 + len(marks), special=(END_OF_TEXT, *marks[:-1]))
    with pytest.raises(TokenizerError) as caught:
        template_of(name, poor)
    assert caught.value.what == f"this tokenizer has no special token {marks[-1]}, which chat turns need"
    assert all(mark in caught.value.accepted for mark in marks)


def test_plain_formats_need_an_end_only() -> None:
    plain = train_bpe([], vocab_size=257, special=(END_OF_TEXT,))
    for name in ("alpaca", "vicuna", "llama2"):
        assert template_of(name, plain).text([USER, REPLY]).strip().endswith(END_OF_TEXT)
    with pytest.raises(TokenizerError) as caught:
        template_of("vicuna", train_bpe([], vocab_size=256, special=()))
    assert str(caught.value) == (
        "this tokenizer has no special token </s>, which the chat template uses as eos_token\n"
        "accepted: a tokenizer with </s> or <|endoftext|>"
    )


def test_no_such_template() -> None:
    with pytest.raises(TokenizerError, match=r"no chat template 'lama2'\. Did you mean 'llama2'") as caught:
        named_template("lama2")
    assert TURN_END not in str(caught.value) and "vicuna" in caught.value.accepted
