"""A small text of plain English sentences, made here from a grammar: a word-level corpus where none is at hand.

Words of one kind stand in the same places, so a model that learns what is alike can judge sentences it never saw: the
"dog was running in a room" of Bengio et al. 2003, section 1.
"""

import functools
import random

SMALL_TEXT = "small"
N_SENTENCES = 6_000
SEED = 2003

# One expansion a line, `|` between alternatives; what has no rule of its own is a word.
_GRAMMAR = """
SENTENCE: SCENE . | SCENE . | SCENE , and SCENE . | PERSON said that SCENE . | when SCENE , SCENE .
SCENE: DOER ACT PLACE | DOER ACT PLACE TIME | the QUALITY DOING was in the ROOM | TIME DOER ACT | THING was on the SEAT
DOER: the ANIMAL | a ANIMAL | the QUALITY ANIMAL | PERSON | a QUALITY ANIMAL
ACT: was MOVING | is MOVING | SAW DOER | SAW the QUALITY ANIMAL | ATE the FOOD
PLACE: in the ROOM | in a ROOM | near the SEAT | behind the SEAT | across the ROOM
THING: the FOOD | a FOOD | the QUALITY FOOD
DOING: ANIMAL | FOOD
TIME: in the morning | at night | on Monday | on Friday | every day | in the evening | before noon
ANIMAL: dog | cat | horse | bird | mouse | fox | rabbit | sheep | goat | wolf | bear | duck
PERSON: Mary | John | Alice | Peter | Anna | Paul | Clara | Henry
MOVING: walking | running | sleeping | sitting | waiting | jumping | resting | hiding
SAW: saw | heard | followed | found | watched | chased
ATE: ate | stole | dropped | liked | wanted
FOOD: bread | cheese | apple | cake | soup | fish | corn | plum
ROOM: room | bedroom | kitchen | garden | barn | house | field | hall
SEAT: table | chair | bench | bed | fence | tree | door | window
QUALITY: small | old | young | grey | quiet | hungry | tired | brown | happy | big
"""


@functools.cache
def small_text() -> tuple[str, ...]:
    """The tokens of the text, the same on every machine."""
    rules = dict(line.split(": ", 1) for line in _GRAMMAR.strip().splitlines())
    choices = {name: [option.split() for option in options.split(" | ")] for name, options in rules.items()}
    rng = random.Random(SEED)

    def expand(symbol: str) -> list[str]:
        if symbol not in choices:
            return [symbol]
        return [token for part in rng.choice(choices[symbol]) for token in expand(part)]

    return tuple(token for _ in range(N_SENTENCES) for token in expand("SENTENCE"))
