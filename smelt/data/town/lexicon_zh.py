"""The Chinese words of the town: surnames and given characters, closed word lists with their measure words, facts.

Each thing carries its measure word, and each verb its result (wash clean, carry away), as the ba and bei sentences
need. Every character is a token of its own. So a colour and a thing are one character each, side by side ("红伞"), and
no two places, days or roles end alike: as in English, a model of two layers finds the colour of a thing in the token
next to it, and can tell two words apart by their last token. Characters of names and of towns are kept apart from those
of the word lists, so that a name is never half a word.
"""

from __future__ import annotations

from smelt.data.town.lexicon import Ask, Check, FactWords, words

# Surname, given character: a name is two tokens, as it is in English.
NAME_PARTS = (
    tuple("王李张刘陈杨赵冯吴徐孙胡朱何林郭罗梁宋郑"),
    tuple(
        "佳思梓宇浩欣嘉志文建俊晓雅诗若婉海伟国永舒丽秀玉慧凯昊泽锦瑞亦景宛清立承启彦春晨"
        "琳涛强军杰磊洋勇艳娟敏霞平刚桂辉鹏华兰莉珊萍婷雪怡宁轩涵彤睿妍莹倩岚琪航凡远恒峰"
    ),
)
TOWN_PARTS = (
    tuple("青金云松竹柳梅枫银翠长龙凤鹤鹿燕莲荷苇枣"),
    tuple("溪河山屿泉湖岭沙田港渡坡湾坝岩崖川畔洲滩"),
    tuple("镇村城"),
)

# The thing, then its measure word.
_THINGS = words(
    "鼓面 灯盏 帽顶 篮个 铃个 盒个 烛根 车辆 杯个 笛支 琴把 罐个"
    " 镜面 锅口 毯条 绳根 勺把 伞把 瓶个 哨个 鞋双 碗只 梳把 锁把"
)
_VERBS = words("洗干净 搬走 修好 卖掉 借走 带走 擦亮 收好 藏好 弄丢 买走 包好")

THINGS = tuple({"o": thing[:-1], "os": thing[:-1], "m": thing[-1]} for thing in _THINGS)
VERBS = tuple({"v": verb, "vb": verb, "vp": verb} for verb in _VERBS)
COLOURS = tuple("红蓝绿黄黑白紫棕")
PLACES = ("花园", "市场", "图书馆", "面包店", "学校", "教堂", "剧院", "厨房", "谷仓", "钟楼")
DAYS = ("星期一", "星期二", "星期三", "星期四", "星期五", "星期六", "星期日")
ROLES = ("厨师", "护士", "医生", "邮差", "画家", "农夫", "歌手", "园丁")
BUILDINGS = ("座桥", "座磨坊", "口井", "座水塔", "家商店", "座农场", "个池塘", "家客栈")

_NO_THING = "{o}没有提到。"
_COLOUR = Ask("c", "{o}是什么颜色的？", "{o}是{c}的。", _NO_THING)
_IS_COLOUR = Check("c", "{o}是{c}的，对吗？")
_NOW = Ask("s", "{P}现在有多少{m}{o}？", "{s}{m}{o}。")

FACTS = {
    "has": FactWords(
        ("{P}有{n}{m}{c}{o}。", "{P}家里有{n}{m}{c}{o}。"),
        (Ask("n", "{P}有几{m}{o}？", "{n}{m}{o}。"), _COLOUR),
        (_IS_COLOUR, Check("n", "{P}有{n}{m}{o}，对吗？")),
    ),
    "put": FactWords(
        ("{P}把{c}{o}放在{l}里。", "{P}把{c}{o}留在{l}里。"),
        (Ask("l", "{o}在哪里？", "{o}在{l}里。", _NO_THING), _COLOUR),
        (Check("l", "{o}在{l}里，对吗？"), _IS_COLOUR),
    ),
    "works": FactWords(
        ("{P}在{l}里工作。",),
        (Ask("l", "{P}在哪里工作？", "在{l}里。"), Ask("P", "谁在{l}里工作？", "是{P}。")),
        (Check("l", "{P}在{l}里工作，对吗？"),),
    ),
    "lives": FactWords(("{P}住在{T}。",), (Ask("T", "{P}住在哪里？", "住在{T}。"),)),
    "gave": FactWords(
        ("{d}，{P}把{c}{o}送给了{Q}。",),
        (
            Ask("P", "谁把{o}送给了{Q}？", "{o}是{P}送的。", _NO_THING),
            Ask("Q", "谁收到了{o}？", "{o}送给了{Q}。", _NO_THING),
            Ask("d", "{Q}是哪天收到{o}的？", "{o}是{d}送的。", _NO_THING),
            _COLOUR,
        ),
        (Check("d", "{Q}是{d}收到{o}的，对吗？"), _IS_COLOUR),
    ),
    "did": FactWords(
        ("{P}把{c}{o}{v}了。",),
        (
            Ask("P", "谁把{o}{v}了？", "{o}被{P}{vp}了。", _NO_THING),
            Ask("o", "{P}把什么{v}了？", "是{c}{o}。"),
            _COLOUR,
        ),
        (Check("o", "{P}把{o}{v}了，对吗？"), _IS_COLOUR),
    ),
    "visits": FactWords(
        ("{d}，{P}要去看望{Q}。", "{P}要在{d}去看望{Q}。"),
        (Ask("d", "{P}哪天要去看望{Q}？", "是{d}。"),),
        (Check("d", "{P}要在{d}去看望{Q}，对吗？"),),
    ),
    "lies": FactWords(("{c}{o}",), (_COLOUR,), (_IS_COLOUR,)),
    "plus": FactWords(("{P}原来有{a}{m}{o}，又得到{b}{m}，现在有{s}{m}。",), (_NOW,)),
    "minus": FactWords(("{P}原来有{a}{m}{o}，后来送出{b}{m}，现在有{s}{m}。",), (_NOW,)),
    "role": FactWords(("{T}的{r}是{P}。",), (Ask("P", "{T}的{r}是谁？", "是{P}。"),)),
    "opens": FactWords(
        ("{l}在{d}开门。",),
        (Ask("d", "{l}哪天开门？", "是{d}。"),),
        (Check("d", "{l}在{d}开门，对吗？"),),
    ),
    "known": FactWords(
        ("{T}出产{c}{o}。",),
        (Ask("o", "{T}出产什么？", "是{c}{o}。"),),
        (Check("o", "{T}出产{o}，对吗？"),),
    ),
    "there": FactWords(
        ("{T}有{n}{g}。", "{T}一共有{n}{g}。"),
        (Ask("n", "{T}有几{g}？", "{n}{g}。"),),
        (Check("n", "{T}有{n}{g}，对吗？"),),
    ),
    "painted": FactWords(
        ("{l}是{c}的。",),
        (Ask("c", "{l}是什么颜色的？", "{l}是{c}的。"),),
        (Check("c", "{l}是{c}的，对吗？"),),
    ),
    "job": FactWords(
        ("{P}是{T}的一位{r}。",),
        (Ask("T", "{P}是哪里人？", "是{T}人。"), Ask("r", "{P}是做什么的？", "是{r}。")),
        (Check("r", "{P}是{r}，对吗？"),),
    ),
}
