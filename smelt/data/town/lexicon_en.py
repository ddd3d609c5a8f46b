"""The English words of the town: parts of names, closed word lists, and how each fact is told and asked.

Every past tense equals its participle and every thing can be counted, so that passives, questions and plurals are
single words to look up. No word after an article begins with a vowel sound, save the things, which never follow "a"
directly. No real name is meant.
"""

from __future__ import annotations

from smelt.data.town.lexicon import Ask, Check, FactWords, words

# First part, last part. The tokenizer's pattern "han" joins the hyphen to the word behind it, so a name is cut in the
# same two pieces wherever it stands, and an unseen name is made of pieces that were seen.
NAME_PARTS = (
    words(
        "Ba Be Bo Da De El Em Fa Fi Ga Gi Ha Hu Ja Jo Ka Ki La Le Li Lo Ma Mi Mo Na Ni Ol Pa Ra Re Ri Ro Sa Su Ta Ti"
        " Va Vi Wa Yo Zo"
    ),
    words(
        "-bo -da -dan -do -fa -go -ja -jo -ka -kin -ko -la -lan -len -li -lin -lo -ma -mi -min -mo -na -nan -ni -no"
        " -ra -ran -ri -ro -sa -san -so -ta -tan -ti -to -va -vi -wen -ya -yo -za"
    ),
)
TOWN_PARTS = (
    words(
        "Alder Ash Birch Bram Clay Cold Dun East Elm Fair Fern Frost Hart Hazel High Kings Lang Long Maple Mill North"
        " Oak Rose Sand South Swan Thorn Wal West Wild Wind Winter"
    ),
    words(
        "-bridge -brook -bury -by -cliff -combe -dale -den -field -ford -ham -hill -hurst -land -lea -mere -moor"
        " -mouth -port -stead -stone -ton -vale -well -wick -wood -worth"
    ),
)

# After the colon: an irregular plural; the past tense and participle.
_THINGS = words(
    "arrow basket bell box:boxes candle cart cup drum flute glove hat jar kite lamp mirror net pot quilt rope spoon"
    " tent umbrella vase whistle"
)
_VERBS = words(
    "wash:washed paint:painted clean:cleaned move:moved carry:carried repair:repaired borrow:borrowed sell:sold"
    " find:found lose:lost polish:polished deliver:delivered"
)

THINGS = tuple(
    {"o": one, "os": many or one + "s", "m": ""} for one, _, many in (thing.partition(":") for thing in _THINGS)
)
VERBS = tuple({"v": past, "vb": base, "vp": past} for base, _, past in (verb.partition(":") for verb in _VERBS))
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "purple", "brown")
PLACES = ("garden", "market", "library", "bakery", "school", "park", "museum", "kitchen", "barn", "tower")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ROLES = ("baker", "teacher", "doctor", "mayor", "painter", "farmer", "singer", "gardener")
BUILDINGS = ("bridges", "mills", "wells", "gates", "shops", "farms", "ponds", "inns")

# What is asked of a thing is answered of that thing: once its name is written, one attention head can look for it in
# the story, and so tell a thing that is there from one that is not.
_NO_THING = "The {o} is not mentioned."
_COLOUR = Ask("c", "What colour is the {o}?", "The {o} is {c}.", _NO_THING)
_IS_COLOUR = Check("c", "Is the {o} {c}?")
_NOW = Ask("s", "How many {os} does {P} have now?", "{s} {os}.")

FACTS = {
    "has": FactWords(
        ("{P} has {n} {c} {os}.", "{P} owns {n} {c} {os}."),
        (
            Ask("n", "How many {os} does {P} have?", "{n} {os}."),
            Ask("c", "What colour are the {os}?", "The {os} are {c}.", "The {os} are not mentioned."),
        ),
        (Check("c", "Are the {os} {c}?"), Check("n", "Does {P} have {n} {os}?")),
    ),
    "put": FactWords(
        ("{P} put the {c} {o} in the {l}.", "{P} left the {c} {o} in the {l}."),
        (Ask("l", "Where is the {o}?", "The {o} is in the {l}.", _NO_THING), _COLOUR),
        (Check("l", "Is the {o} in the {l}?"), _IS_COLOUR),
    ),
    "works": FactWords(
        ("{P} works in the {l}.",),
        (Ask("l", "Where does {P} work?", "In the {l}."), Ask("P", "Who works in the {l}?", "It is {P}.")),
        (Check("l", "Does {P} work in the {l}?"),),
    ),
    "lives": FactWords(("{P} lives in {T}.",), (Ask("T", "Where does {P} live?", "In {T}."),)),
    "gave": FactWords(
        ("On {d}, {P} gave the {c} {o} to {Q}.",),
        (
            Ask("P", "Who gave the {o} to {Q}?", "The {o} came from {P}.", _NO_THING),
            Ask("Q", "Who got the {o}?", "The {o} went to {Q}.", _NO_THING),
            Ask("d", "When did {Q} get the {o}?", "The {o} came on {d}.", _NO_THING),
            _COLOUR,
        ),
        (Check("d", "Did {Q} get the {o} on {d}?"), _IS_COLOUR),
    ),
    "did": FactWords(
        ("{P} {v} the {c} {o}.",),
        (
            Ask("P", "Who {v} the {o}?", "The {o} was {vp} by {P}.", _NO_THING),
            Ask("o", "What did {P} {vb}?", "The {c} {o}."),
            _COLOUR,
        ),
        (Check("o", "Did {P} {vb} the {o}?"), _IS_COLOUR),
    ),
    "visits": FactWords(
        ("{P} will visit {Q} on {d}.", "On {d}, {P} will visit {Q}."),
        (Ask("d", "When will {P} visit {Q}?", "On {d}."),),
        (Check("d", "Will {P} visit {Q} on {d}?"),),
    ),
    "lies": FactWords(("the {c} {o}",), (_COLOUR,), (_IS_COLOUR,)),
    "plus": FactWords(("{P} had {a} {os} and got {b} more. Now {P} has {s} {os}.",), (_NOW,)),
    "minus": FactWords(("{P} had {a} {os} and gave {b} away. Now {P} has {s} {os}.",), (_NOW,)),
    "role": FactWords(("The {r} of {T} is {P}.",), (Ask("P", "Who is the {r} of {T}?", "It is {P}."),)),
    "opens": FactWords(
        ("The {l} opens on {d}.",),
        (Ask("d", "When does the {l} open?", "On {d}."),),
        (Check("d", "Does the {l} open on {d}?"),),
    ),
    "known": FactWords(
        ("{T} is known for its {c} {os}.",),
        (Ask("o", "What is {T} known for?", "Its {c} {os}."),),
        (Check("o", "Is {T} known for its {os}?"),),
    ),
    "there": FactWords(
        ("There are {n} {g} in {T}.", "{T} has {n} {g}."),
        (Ask("n", "How many {g} are there in {T}?", "{n} {g}."),),
        (Check("n", "Are there {n} {g} in {T}?"),),
    ),
    "painted": FactWords(
        ("The {l} is {c}.",),
        (Ask("c", "What colour is the {l}?", "The {l} is {c}."),),
        (Check("c", "Is the {l} {c}?"),),
    ),
    "job": FactWords(
        ("{P} is a {r} from {T}.",),
        (Ask("T", "Where does {P} come from?", "From {T}."), Ask("r", "What does {P} do?", "{P} is a {r}.")),
        (Check("r", "Is {P} a {r}?"),),
    ),
}
