r"""The published chat formats, as Jinja text that smelt, transformers and trl render alike.

Each is written for training as well as for serving: `{% generation %}` stands around exactly what the assistant must
learn to say, its content and whatever ends its turn, and what precedes it is what `add_generation_prompt` opens. In
Gemma's format a conversation of two messages is, with the learned part between ^:

    <bos><start_of_turn>user\nWhere is the mill?<end_of_turn>\n<start_of_turn>model\n^By the river.<end_of_turn>^\n

Where the published template does what cannot be trained, the family's own training code is followed: Mistral's system
prompt stands before the last user message also when a reply follows it, and GLM-4, whose turns end where the next one
begins, learns that next mark (and a last `<|user|>` where the conversation ends with a reply). An empty message is a
message, which GLM-4's template leaves out.

Formats: the model cards of Llama-2-chat, Meta-Llama-3, Llama-3.1, Mistral-7B-Instruct-v0.3, Qwen2.5, Qwen3,
glm-4-9b-chat and gemma; github.com/tatsu-lab/stanford_alpaca; FastChat's vicuna_v1.1.
"""

from __future__ import annotations

from dataclasses import dataclass

from smelt.tokenizers.base import END_OF_TEXT, TURN_END, TURN_START

CHAT_ROLES = ("system", "user", "assistant", "tool")
NO_TOOLS = ("system", "user", "assistant")


@dataclass(frozen=True)
class Published:
    """A chat format.

    Args:
        jinja: the template.
        marks: the special tokens that it writes, without which it means nothing.
        roles: the roles it knows.
        begin: what `bos_token` may be, the first that the tokenizer has; empty where the template has none.
        end: what `eos_token` may be, likewise.
        stops: the marks besides `eos_token` that end a reply.
    """

    jinja: str
    marks: tuple[str, ...] = ()
    roles: tuple[str, ...] = CHAT_ROLES
    begin: tuple[str, ...] = ()
    end: tuple[str, ...] = (END_OF_TEXT,)
    stops: tuple[str, ...] = ()


# The generation marks let trl and transformers find the assistant's part. No default system prompt.
CHATML = r"""
{%- for message in messages -%}
    {{- '<|im_start|>' + message['role'] + '\n' -}}
    {%- if message['role'] == 'assistant' -%}
        {%- generation -%}
            {{- message['content'] + '<|im_end|>' -}}
        {%- endgeneration -%}
    {%- else -%}
        {{- message['content'] + '<|im_end|>' -}}
    {%- endif -%}
    {{- '\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\n' -}}
{%- endif -%}
"""[1:]

LLAMA2 = r"""
{%- set num_system = 1 if messages[0]['role'] == 'system' else 0 -%}
{%- for message in messages[num_system:] -%}
    {%- if message['role'] != ('user' if loop.index0 % 2 == 0 else 'assistant') -%}
        {{- raise_exception('after an optional system message, user and assistant must alternate') -}}
    {%- elif message['role'] == 'user' -%}
        {%- set content = message['content'] -%}
        {%- if loop.first and num_system -%}
            {%- set content = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' + content -%}
        {%- endif -%}
        {{- bos_token + '[INST] ' + content.strip() + ' [/INST]' -}}
    {%- else -%}
        {%- generation -%}{{- ' ' + message['content'].strip() + ' ' + eos_token -}}{%- endgeneration -%}
    {%- endif -%}
{%- endfor -%}
"""[1:]

LLAMA3 = r"""
{{- bos_token -}}
{%- for message in messages -%}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' -}}
    {%- if message['role'] == 'assistant' -%}
        {%- generation -%}{{- message['content'] | trim + '<|eot_id|>' -}}{%- endgeneration -%}
    {%- else -%}
        {{- message['content'] | trim + '<|eot_id|>' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
{%- endif -%}
"""[1:]

# Tools are told in the first question. The system's turn is always there, with the dates that the model was made with.
LLAMA31 = r"""
{%- set num_system = 1 if messages[0]['role'] == 'system' else 0 -%}
{{- bos_token + '<|start_header_id|>system<|end_header_id|>\n\n' -}}
{%- if tools -%}{{- 'Environment: ipython\n' -}}{%- endif -%}
{{- 'Cutting Knowledge Date: December 2023\nToday Date: ' -}}
{{- (date_string if date_string is defined else '26 Jul 2024') + '\n\n' -}}
{%- if num_system -%}{{- messages[0]['content'] | trim -}}{%- endif -%}
{{- '<|eot_id|>' -}}
{%- for message in messages[num_system:] -%}
    {%- if loop.first and tools and message['role'] != 'user' -%}
        {{- raise_exception('tools are told in the first question, and here it is not the first message') -}}
    {%- elif message['role'] == 'assistant' -%}
        {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
        {%- if message['tool_calls'] | length > 1 -%}
            {{- raise_exception('this format makes one call at a time') -}}
        {%- endif -%}
        {%- generation -%}
            {%- if message['tool_calls'] -%}
                {%- set call = message['tool_calls'][0]['function'] -%}
                {{- '{"name": "' + call['name'] + '", "parameters": ' + call['arguments'] | tojson + '}<|eot_id|>' -}}
            {%- else -%}
                {{- message['content'] | trim + '<|eot_id|>' -}}
            {%- endif -%}
        {%- endgeneration -%}
    {%- elif message['role'] == 'tool' -%}
        {{- '<|start_header_id|>ipython<|end_header_id|>\n\n' + message['content'] | tojson + '<|eot_id|>' -}}
    {%- else -%}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' -}}
        {%- if loop.first and tools -%}
            {{- 'Given the following functions, please respond with a JSON for a function call ' -}}
            {{- 'with its proper arguments that best answers the given prompt.\n\nRespond in the format ' -}}
            {{- '{"name": function name, "parameters": dictionary of argument name and its value}.' -}}
            {{- 'Do not use variables.\n\n' -}}
            {%- for tool in tools -%}{{- tool | tojson(indent=4) + '\n\n' -}}{%- endfor -%}
        {%- endif -%}
        {{- message['content'] | trim + '<|eot_id|>' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}
{%- endif -%}
"""[1:]

MISTRAL = r"""
{%- macro check_id(id) -%}
    {%- if not id or id | length != 9 -%}
        {{- raise_exception('the id of a tool call must have 9 characters') -}}
    {%- endif -%}
{%- endmacro -%}
{%- set num_system = 1 if messages[0]['role'] == 'system' else 0 -%}
{%- set state = namespace(last_user=-1, num_turns=0) -%}
{%- for message in messages[num_system:] -%}
    {%- if message['role'] == 'user' -%}
        {%- set state.last_user = loop.index0 -%}
    {%- endif -%}
    {%- if message['role'] != 'tool' and not message['tool_calls'] -%}
        {%- if message['role'] != ('user' if state.num_turns % 2 == 0 else 'assistant') -%}
            {{- raise_exception('after an optional system message, user and assistant must alternate') -}}
        {%- endif -%}
        {%- set state.num_turns = state.num_turns + 1 -%}
    {%- endif -%}
{%- endfor -%}
{{- bos_token -}}
{%- for message in messages[num_system:] -%}
    {%- if message['role'] == 'user' -%}
        {%- if loop.index0 == state.last_user -%}
            {%- if tools -%}
                {{- '[AVAILABLE_TOOLS] [' -}}
                {%- for tool in tools -%}
                    {{- '{"type": "function", "function": {' -}}
                    {%- for name, value in tool['function'].items() if name != 'return' -%}
                        {{- name | tojson + ': ' + value | tojson -}}
                        {%- if not loop.last -%}{{- ', ' -}}{%- endif -%}
                    {%- endfor -%}
                    {{- '}}' -}}
                    {%- if not loop.last -%}{{- ', ' -}}{%- endif -%}
                {%- endfor -%}
                {{- '][/AVAILABLE_TOOLS]' -}}
            {%- endif -%}
            {{- '[INST] ' -}}
            {%- if num_system -%}{{- messages[0]['content'] + '\n\n' -}}{%- endif -%}
            {{- message['content'] + '[/INST]' -}}
        {%- else -%}
            {{- '[INST] ' + message['content'] + '[/INST]' -}}
        {%- endif -%}
    {%- elif message['tool_calls'] -%}
        {%- generation -%}
            {{- '[TOOL_CALLS] [' -}}
            {%- for call in message['tool_calls'] -%}
                {{- check_id(call['id']) -}}
                {{- (call['function'] | tojson)[:-1] + ', "id": "' + call['id'] + '"}' -}}
                {%- if not loop.last -%}{{- ', ' -}}{%- endif -%}
            {%- endfor -%}
            {{- ']' + eos_token -}}
        {%- endgeneration -%}
    {%- elif message['role'] == 'assistant' -%}
        {%- generation -%}{{- ' ' + message['content'] | trim + eos_token -}}{%- endgeneration -%}
    {%- else -%}
        {{- check_id(message['tool_call_id']) -}}
        {{- '[TOOL_RESULTS] {"content": ' + message['content'] + ', ' -}}
        {{- '"call_id": "' + message['tool_call_id'] + '"}[/TOOL_RESULTS]' -}}
    {%- endif -%}
{%- endfor -%}
"""[1:]

_QWEN_TOOLS = r"""
{%- macro tool_list() -%}
    {{- '# Tools\n\nYou may call one or more functions to assist with the user query.\n\n' -}}
    {{- 'You are provided with function signatures within <tools></tools> XML tags:\n<tools>' -}}
    {%- for tool in tools -%}
        {{- '\n' + tool | tojson -}}
    {%- endfor -%}
    {{- '\n</tools>\n\nFor each function call, return a json object with function name and arguments within ' -}}
    {{- '<tool_call></tool_call> XML tags:\n<tool_call>\n' -}}
    {{- '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>' -}}
{%- endmacro -%}
{%- macro call_texts(calls, after_text, keeps_text) -%}
    {%- for call in calls -%}
        {%- set call = call['function'] or call -%}
        {%- if after_text or not loop.first -%}{{- '\n' -}}{%- endif -%}
        {{- '<tool_call>\n{"name": "' + call['name'] + '", "arguments": ' -}}
        {{- call['arguments'] if keeps_text and call['arguments'] is string else call['arguments'] | tojson -}}
        {{- '}\n</tool_call>' -}}
    {%- endfor -%}
{%- endmacro -%}
{%- macro tool_result(content, follows, goes_on) -%}
    {%- if not follows -%}{{- '<|im_start|>user' -}}{%- endif -%}
    {{- '\n<tool_response>\n' + content + '\n</tool_response>' -}}
    {%- if not goes_on -%}{{- '<|im_end|>\n' -}}{%- endif -%}
{%- endmacro -%}
"""[1:]

# Qwen2.5 always has a system prompt.
QWEN = (
    _QWEN_TOOLS
    + r"""
{%- set num_system = 1 if messages[0]['role'] == 'system' else 0 -%}
{{- '<|im_start|>system\n' -}}
{{- messages[0]['content'] if num_system
    else 'You are Qwen, created by Alibaba Cloud. You are a helpful assistant.' -}}
{%- if tools -%}{{- '\n\n' + tool_list() -}}{%- endif -%}
{{- '<|im_end|>\n' -}}
{%- for message in messages[num_system:] -%}
    {%- if message['role'] == 'tool' -%}
        {{- tool_result(message['content'],
            not loop.first and loop.previtem['role'] == 'tool',
            not loop.last and loop.nextitem['role'] == 'tool') -}}
    {%- elif message['role'] == 'assistant' -%}
        {{- '<|im_start|>assistant\n' -}}
        {%- generation -%}
            {%- if message['content'] or not message['tool_calls'] -%}{{- message['content'] -}}{%- endif -%}
            {{- call_texts(message['tool_calls'], message['content'], false) + '<|im_end|>' -}}
        {%- endgeneration -%}
        {{- '\n' -}}
    {%- else -%}
        {{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\n' -}}
{%- endif -%}
"""[1:]
)

# Thinking is shown only in turns after the last question; before it, answers stand alone.
QWEN3 = (
    _QWEN_TOOLS
    + r"""
{%- set num_system = 1 if messages[0]['role'] == 'system' else 0 -%}
{%- if tools -%}
    {{- '<|im_start|>system\n' -}}
    {%- if num_system -%}{{- messages[0]['content'] + '\n\n' -}}{%- endif -%}
    {{- tool_list() + '<|im_end|>\n' -}}
{%- elif num_system -%}
    {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' -}}
{%- endif -%}
{%- set state = namespace(last_question=messages | length - 1) -%}
{%- for message in messages -%}
    {%- if message['role'] == 'user' and not (message['content'].startswith('<tool_response>')
            and message['content'].endswith('</tool_response>')) -%}
        {%- set state.last_question = loop.index0 -%}
    {%- endif -%}
{%- endfor -%}
{%- for message in messages -%}
    {%- set content = message['content'] if message['content'] is string else '' -%}
    {%- if message['role'] == 'tool' -%}
        {{- tool_result(content,
            not loop.first and loop.previtem['role'] == 'tool',
            not loop.last and loop.nextitem['role'] == 'tool') -}}
    {%- elif message['role'] == 'assistant' -%}
        {%- set thoughts = '' -%}
        {%- if message['reasoning_content'] is string -%}
            {%- set thoughts = message['reasoning_content'] -%}
        {%- elif '</think>' in content -%}
            {%- set thoughts = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') -%}
            {%- set content = content.split('</think>')[-1].lstrip('\n') -%}
        {%- endif -%}
        {%- set shows_thoughts = loop.index0 > state.last_question and (loop.last or thoughts) -%}
        {{- '<|im_start|>assistant\n' -}}
        {%- generation -%}
            {%- if shows_thoughts -%}
                {{- '<think>\n' + thoughts.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') -}}
            {%- else -%}
                {{- content -}}
            {%- endif -%}
            {{- call_texts(message['tool_calls'], content, true) + '<|im_end|>' -}}
        {%- endgeneration -%}
        {{- '\n' -}}
    {%- elif message['role'] == 'user' or not loop.first -%}
        {{- '<|im_start|>' + message['role'] + '\n' + content + '<|im_end|>\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|im_start|>assistant\n' -}}
    {%- if enable_thinking is defined and enable_thinking is false -%}
        {{- '<think>\n\n</think>\n\n' -}}
    {%- endif -%}
{%- endif -%}
"""[1:]
)

# Two line ends before a tool, as in the family's code; in the published template trim_blocks eats one.
GLM4 = r"""
{%- macro mark(role) -%}
    {{- '<|observation|>' if role == 'tool' else '<|' + role + '|>' -}}
{%- endmacro -%}
{{- '[gMASK]<sop>' -}}
{%- if tools -%}
    {{- '<|system|>\n你是一个名为 ChatGLM 的人工智能助手。你是基于智谱AI训练的语言模型 GLM-4 模型开发的，' -}}
    {{- '你的任务是针对用户的问题和要求提供适当的答复和支持。\n\n# 可用工具' -}}
    {%- for tool in tools -%}
        {{- '\n\n## ' + tool['function']['name'] + '\n\n' + tool['function'] | tojson(indent=4) -}}
        {{- '\n在调用上述函数时，请使用 Json 格式表示调用的参数。' -}}
    {%- endfor -%}
{%- endif -%}
{%- for message in messages -%}
    {%- if loop.first or loop.previtem['role'] != 'assistant' -%}{{- mark(message['role']) -}}{%- endif -%}
    {%- if message['role'] == 'assistant' -%}
        {%- set ending = mark(loop.nextitem['role']) if not loop.last
            else '' if add_generation_prompt else '<|user|>' -%}
        {%- generation -%}
            {%- if message['content'] or not message['tool_calls'] -%}{{- '\n' + message['content'] -}}{%- endif -%}
            {%- for call in message['tool_calls'] -%}
                {%- if message['content'] or not loop.first -%}{{- '<|assistant|>' -}}{%- endif -%}
                {%- set call = call['function'] or call -%}
                {{- call['name'] + '\n' -}}
                {{- call['arguments'] if call['arguments'] is string else call['arguments'] | tojson -}}
            {%- endfor -%}
            {{- ending -}}
        {%- endgeneration -%}
    {%- else -%}
        {{- '\n' + message['content'] -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|assistant|>' -}}
{%- endif -%}
"""[1:]

GEMMA = r"""
{{- bos_token -}}
{%- if messages[0]['role'] == 'system' -%}
    {{- raise_exception('this format has no system role') -}}
{%- endif -%}
{%- for message in messages -%}
    {%- if message['role'] != ('user' if loop.index0 % 2 == 0 else 'assistant') -%}
        {{- raise_exception('user and assistant must alternate') -}}
    {%- elif message['role'] == 'user' -%}
        {{- '<start_of_turn>user\n' + message['content'] | trim + '<end_of_turn>\n' -}}
    {%- else -%}
        {{- '<start_of_turn>model\n' -}}
        {%- generation -%}{{- message['content'] | trim + '<end_of_turn>' -}}{%- endgeneration -%}
        {{- '\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<start_of_turn>model\n' -}}
{%- endif -%}
"""[1:]

# With a line end after "### Response:", which Stanford's own code leaves out and everybody since has.
ALPACA = r"""
{%- set num_system = 1 if messages[0]['role'] == 'system' else 0 -%}
{{- messages[0]['content'].strip() if num_system else
    'Below is an instruction that describes a task. Write a response that appropriately completes the request.' -}}
{{- '\n\n' -}}
{%- for message in messages[num_system:] -%}
    {%- if message['role'] != ('user' if loop.index0 % 2 == 0 else 'assistant') -%}
        {{- raise_exception('after an optional system message, user and assistant must alternate') -}}
    {%- elif message['role'] == 'user' -%}
        {{- '### Instruction:\n' + message['content'].strip() + '\n\n' -}}
    {%- else -%}
        {{- '### Response:\n' -}}
        {%- generation -%}{{- message['content'].strip() + eos_token -}}{%- endgeneration -%}
        {{- '\n\n' -}}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '### Response:\n' -}}
{%- endif -%}
"""[1:]

VICUNA = r"""
{%- set num_system = 1 if messages[0]['role'] == 'system' else 0 -%}
{{- messages[0]['content'] if num_system else
    'A chat between a curious user and an artificial intelligence assistant. ' +
    "The assistant gives helpful, detailed, and polite answers to the user's questions." -}}
{{- ' ' -}}
{%- for message in messages[num_system:] -%}
    {%- if message['role'] != ('user' if loop.index0 % 2 == 0 else 'assistant') -%}
        {{- raise_exception('after an optional system message, user and assistant must alternate') -}}
    {%- elif message['role'] == 'user' -%}
        {{- 'USER: ' + message['content'] + ' ' -}}
    {%- else -%}
        {{- 'ASSISTANT:' -}}
        {%- generation -%}{{- ' ' + message['content'] + eos_token -}}{%- endgeneration -%}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- 'ASSISTANT:' -}}
{%- endif -%}
"""[1:]

TEMPLATES = {
    "chatml": Published(CHATML, marks=(TURN_START, TURN_END), end=(TURN_END,), stops=(TURN_END,)),
    "llama2": Published(LLAMA2, roles=NO_TOOLS, begin=("<s>", END_OF_TEXT), end=("</s>", END_OF_TEXT)),
    "llama3": Published(
        LLAMA3,
        marks=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        roles=NO_TOOLS,
        begin=("<|begin_of_text|>", END_OF_TEXT),
        end=("<|eot_id|>",),
        stops=("<|eot_id|>", "<|end_of_text|>"),
    ),
    "llama3.1": Published(
        LLAMA31,
        marks=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        begin=("<|begin_of_text|>", END_OF_TEXT),
        end=("<|eot_id|>",),
        stops=("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"),
    ),
    "mistral": Published(
        MISTRAL,
        marks=(
            "[INST]",
            "[/INST]",
            "[AVAILABLE_TOOLS]",
            "[/AVAILABLE_TOOLS]",
            "[TOOL_CALLS]",
            "[TOOL_RESULTS]",
            "[/TOOL_RESULTS]",
        ),
        begin=("<s>", END_OF_TEXT),
        end=("</s>", END_OF_TEXT),
    ),
    "qwen": Published(QWEN, marks=(TURN_START, TURN_END), end=(TURN_END,), stops=(TURN_END,)),
    "qwen3": Published(QWEN3, marks=(TURN_START, TURN_END), end=(TURN_END,), stops=(TURN_END,)),
    "glm4": Published(
        GLM4,
        marks=("[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
        stops=("<|user|>", "<|observation|>"),
    ),
    "gemma": Published(
        GEMMA,
        marks=("<start_of_turn>", "<end_of_turn>"),
        roles=NO_TOOLS,
        begin=("<bos>", END_OF_TEXT),
        end=("<eos>", END_OF_TEXT),
        stops=("<end_of_turn>",),
    ),
    "alpaca": Published(ALPACA, roles=NO_TOOLS, end=("</s>", END_OF_TEXT)),
    "vicuna": Published(VICUNA, roles=NO_TOOLS, end=("</s>", END_OF_TEXT)),
}
