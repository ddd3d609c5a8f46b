"""How Chinese exercises are worded; see `wording_en` for the meaning of the tables.

Full-width punctuation in sentences, half-width digits and signs in sums. The keys of JSON stay English, as tools
expect them; the values are the words of the sentence.
"""

from __future__ import annotations

SPACE = ""
COMMA = "、"
YES = "问{x}，说{y}相同：对。"
NO = "问{x}，说{y}不同：不对。"
UNKNOWN = "故事里没有说。"

TASKS = {
    "story": ("{x}\n\n{question}", "读故事，回答问题。\n{x}\n{question}", "故事：{x}\n问题：{question}"),
    "page": ("{x}\n\n{question}", "读介绍，回答问题。\n{x}\n{question}", "介绍：{x}\n问题：{question}"),
    "order_first": ("最先发生了什么？", "第一件事是什么？"),
    "order_last": ("最后发生了什么？", "最后一件事是什么？"),
    "order_after": ("{P}把{o}{v}之后，接着发生了什么？", "{P}把{o}{v}了，下一件事是什么？"),
    "arithmetic": ("{x} 等于多少？", "请计算：{x}", "算一算，{x} 是多少？"),
    "sort_numbers": ("请把这些数从小到大排列：{x}", "从小到大给这些数排序：{x}"),
    "sort_days": ("请从星期一开始排列：{x}", "按一周的顺序给这几天排序：{x}"),
    "count_things": ("下面一共有几样东西：{x}？", "数一数有几样东西：{x}。"),
    "count_people": ("下面一共有几个人：{x}？", "数一数有几个人：{x}。"),
    "continue": ("下一个是什么：{x}、……？", "请接着往下写：{x}、……"),
    "passive": ("请改成被字句：{x}", "用“被”字改写这句话：{x}"),
    "extract_deal": ("请提取人物、物品、数量和日期，写成JSON：{x}", "用JSON写出人物、物品、数量和日期：{x}"),
    "extract_put": ("请提取人物、物品、颜色和地点，写成JSON：{x}", "用JSON写出人物、物品、颜色和地点：{x}"),
    "tool_buy": ("请买{n}{m}{c}{o}。", "我需要{n}{m}{c}{o}，请帮我买。"),
    "tool_remind": ("请在{d}提醒我给{P}打电话。", "{d}我要给{P}打电话，请提醒我。"),
    "tool_message": ("请告诉{P}，我在{l}里。", "帮我转告{P}，我在{l}里。"),
    "tool_find": ("{c}{o}在哪里能找到？", "请帮我找{c}{o}。"),
    "talk_hello": ("你好！我叫{P}。", "您好，我是{P}，很高兴认识您！"),
    "talk_how": ("早上好，我是{P}。你好吗？", "我是{P}，你今天怎么样？"),
    "talk_thanks": ("又是我，{P}。谢谢你的帮助！", "{P}非常感谢你！"),
    "talk_bye": ("我该走了，{P}向你说再见！", "天晚了，{P}要回家了，再见！"),
    "talk_home": ("你好，我是{P}，我住在{T}。", "我叫{P}，我来自{T}。"),
}

NOTES = {
    "question": "问：{question}\n答：{answer}",
    "arithmetic": "{x}：{answer}",
    "sort_numbers": "小的在前：{x} -> {answer}",
    "sort_days": "从星期一起：{x} -> {answer}",
    "count_things": "东西：{x}。数目：{answer}",
    "count_people": "人：{x}。数目：{answer}",
    "continue": "规律：{x}、{answer}",
    "passive": "原句：{x}\n被字句：{answer}",
    "extract_deal": "{x}\n记录：{answer}",
    "extract_put": "{x}\n记录：{answer}",
    "tool": "请求：{question}\n调用：{answer}",
    "talk": "客人：{question}\n主人：{answer}",
}

ANSWERS = {
    "arithmetic": "{x}，所以是{s}。",
    "passive": "{c}{o}被{P}{vp}了。",
    "talk_hello": "你好，{P}！我也很高兴认识你。",
    "talk_how": "你好，{P}！我很好，谢谢。",
    "talk_thanks": "不客气，{P}！",
    "talk_bye": "再见，{P}！下次见。",
    "talk_home": "你好，{P}！{T}最近怎么样？",
}

TEXTS = {
    "deal": ("{d}，{P}买了{n}{m}{o}。", "{P}在{d}卖了{n}{m}{o}。", "{d}，{P}做了{n}{m}{o}。"),
    "put": ("{P}把{c}{o}放在{l}里。", "在{l}里，{P}看见了{c}{o}。"),
    "shelf": ("架上有{x}。", "一排放着{x}。"),
    "pair": ("{P}有{n}{m}{o}。",),
    "town": ("{T}不大。", "{T}很大。", "{T}很古老。", "{T}很安静。"),
    "opener": ("那天阳光很好。", "那天下着雨。", "那是忙碌的一周。", "这是镇上的一个故事。", "听一个小故事。"),
    "closer": ("大家都很高兴。", "后来他们都回家了。", "这一天就这样过去了。", "晚上下起了雨。"),
}

STEPS = ("首先，", "然后，", "接着，", "最后，")

LABELLED = {
    "gift": ("{P}送给{Q}一{m}{c}{o}。", "{Q}收到了{P}送的{c}{o}。", "{d}，{P}带了{n}{m}{o}给{Q}当礼物。"),
    "purchase": ("{P}在市场里买了{n}{m}{c}{o}。", "{d}，{P}花钱买下了{c}{o}。", "{P}去逛街，买回了{n}{m}{o}。"),
    "repair": ("{P}把{c}{o}修好了。", "{c}{o}坏了，{P}修了修。", "{d}，{P}修理了旧{o}。"),
    "trip": ("{P}去{T}旅行。", "{d}，{P}坐火车去了{T}。", "{P}和{Q}{d}在{T}游玩。"),
    "meeting": ("{P}和{Q}在{l}里见了面。", "{d}，{P}和{Q}在{l}里谈话。", "{P}在{l}里等{Q}，然后他们一起喝茶。"),
}
