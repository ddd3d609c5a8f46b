"""How English exercises are worded: as a user asks them, and as the pages of a school book show them.

TASKS are what a user asks, NOTES how documents show the same exercise with its answer, in other words; ANSWERS are
shared by both. Fields are the slots of `lexicon`; `x` is the material of the exercise, `answer` its answer.
YES and NO put what was asked (x) beside what was told (y), and sums are worked out before the result: a small model
cannot compare or carry what it has not written down.
A wording of TASKS must differ from its sisters for any material, or the bits of a document would count twice.
"""

from __future__ import annotations

SPACE = " "
COMMA = ", "
YES = "Asked {x}, told {y} too: yes."
NO = "Asked {x}, told {y} instead: no."
UNKNOWN = "The story does not say."

TASKS = {
    "story": ("{x}\n\n{question}", "Read the story and answer.\n{x}\n{question}", "Story: {x}\nQuestion: {question}"),
    "page": ("{x}\n\n{question}", "Read the page and answer.\n{x}\n{question}", "Page: {x}\nQuestion: {question}"),
    "order_first": ("What happened first?", "Which event was the first?"),
    "order_last": ("What happened last?", "Which event was the last?"),
    "order_after": ("What happened right after {P} {v} the {o}?", "What came next after {P} {v} the {o}?"),
    "arithmetic": ("What is {x}?", "Work out {x}.", "How much is {x}?"),
    "sort_numbers": ("Sort these numbers from small to large: {x}", "Put these numbers in order, smallest first: {x}"),
    "sort_words": ("Sort these words by the alphabet: {x}", "Put these words in alphabetical order: {x}"),
    "count_things": ("How many things are in this list: {x}?", "Count the things in this list: {x}."),
    "count_people": ("How many people are named here: {x}?", "Count the people in this list: {x}."),
    "continue": ("What comes next: {x}, ...?", "Continue the pattern: {x}, ..."),
    "passive": ("Rewrite in the passive: {x}", "Say this in the passive voice: {x}"),
    "extract_deal": (
        "Extract person, object, count and day as JSON: {x}",
        "Write as JSON with person, object, count and day: {x}",
    ),
    "extract_put": (
        "Extract person, object, colour and place as JSON: {x}",
        "Write as JSON with person, object, colour and place: {x}",
    ),
    "tool_buy": ("Please buy {n} {c} {os}.", "I need {n} {c} {os}. Please buy them."),
    "tool_remind": ("Remind me to call {P} on {d}.", "On {d} I want to call {P}. Please remind me."),
    "tool_message": ("Tell {P} that I am in the {l}.", "Please let {P} know that I am in the {l}."),
    "tool_find": ("Where can I find the {c} {o}?", "Please find the {c} {o} for me."),
    "talk_hello": ("Hello! My name is {P}.", "Hi, I am {P}. Nice to meet you!"),
    "talk_how": ("Good morning, I am {P}. How are you?", "This is {P}. How are you today?"),
    "talk_thanks": ("It is {P} again. Thank you for your help!", "Thanks a lot! Best wishes from {P}."),
    "talk_bye": ("I must go now. Goodbye from {P}!", "It is late, so {P} says goodbye!"),
    "talk_home": ("Hello, I am {P} and I live in {T}.", "My name is {P}. I come from {T}."),
}

NOTES = {
    "question": "Question: {question}\nAnswer: {answer}",
    "arithmetic": "{x}: {answer}",
    "sort_numbers": "Smallest first: {x} -> {answer}",
    "sort_words": "By the alphabet: {x} -> {answer}",
    "count_things": "Things: {x}. Number: {answer}",
    "count_people": "People: {x}. Number: {answer}",
    "continue": "Pattern: {x}, {answer}",
    "passive": "Active: {x}\nPassive: {answer}",
    "extract_deal": "{x}\nRecord: {answer}",
    "extract_put": "{x}\nRecord: {answer}",
    "tool": "Request: {question}\nCall: {answer}",
    "talk": "Guest: {question}\nHost: {answer}",
}

ANSWERS = {
    "arithmetic": "{x}, so {s}.",
    "passive": "The {c} {o} was {vp} by {P}.",
    "talk_hello": "Hello, {P}! Nice to meet you too.",
    "talk_how": "Good day, {P}! I am well, thank you.",
    "talk_thanks": "You are welcome, {P}!",
    "talk_bye": "Goodbye, {P}! See you soon.",
    "talk_home": "Hello, {P}! How are things in {T}?",
}

TEXTS = {
    "deal": ("On {d}, {P} bought {n} {os}.", "{P} sold {n} {os} on {d}.", "On {d}, {P} made {n} {os}."),
    "put": ("{P} put the {c} {o} in the {l}.", "In the {l}, {P} saw the {c} {o}."),
    "shelf": ("On the shelf: {x}.", "There are, in a row, {x}."),
    "pair": ("{P} has {n} {os}.",),
    "town": ("{T} is a small town.", "{T} is a large town.", "{T} is an old town.", "{T} is a quiet town."),
    "opener": (
        "It was a sunny day.",
        "It was a rainy day.",
        "It was a busy week.",
        "This is a story from the town.",
        "Listen to a short story.",
    ),
    "closer": (
        "Everyone was happy.",
        "Then they all went home.",
        "That was the whole day.",
        "In the evening it rained.",
    ),
}

# Told before the events of a story: three events leave out the third.
STEPS = ("First, ", "Then, ", "After that, ", "Finally, ")

LABELLED = {
    "gift": (
        "{P} gave {Q} a {c} {o}.",
        "{Q} got a {c} {o} from {P}.",
        "On {d}, {P} brought {Q} {n} {os} as a present.",
    ),
    "purchase": (
        "{P} bought {n} {c} {os} at the market.",
        "On {d}, {P} paid for a {c} {o}.",
        "{P} went shopping and came home with {n} {os}.",
    ),
    "repair": (
        "{P} repaired the {c} {o}.",
        "The {c} {o} was broken, so {P} fixed it.",
        "On {d}, {P} mended the old {o}.",
    ),
    "trip": (
        "{P} travelled to {T}.",
        "On {d}, {P} left for {T} by train.",
        "{P} and {Q} spent {d} in {T}.",
    ),
    "meeting": (
        "{P} met {Q} in the {l}.",
        "On {d}, {P} and {Q} talked in the {l}.",
        "{P} waited for {Q} in the {l}, and then they had tea.",
    ),
}
