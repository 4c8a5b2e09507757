"""The property-support agent's world: maintenance requests with their replies, and facts about buildings with cited answers.

Replies are acknowledge, action, timeline. In the history of everyday requests the timeline was forgotten: that is what people correct.
The buildings of the knowledge base occur in no training row.
"""

import calendar
import random
import re
from typing import Final, NamedTuple

from data_jobs.samples_values import Split, belongs

PROMPT: Final = "Answer tenants. Cite passages."
DESCRIPTION: Final = (
    "Answers tenants of rented flats: takes maintenance requests (leaks, heating, locks, noise, bins) and tells facts about their "
    "building (gate codes, opening hours, parking, deposits, waste days)."
)
ABSENT: Final = "The passages do not say."
UNKNOWN: Final = "I do not know; please ask the office."
LATER: Final = "You will hear from us within 3 days."

KNOWN_BUILDINGS: Final = (
    "Maple Court", "Juniper House", "Harbour Mill", "Linden Row", "Granite Wharf", "Heather Lodge",
    "Willow Terrace", "Saffron Yard", "Beacon Place", "Orchard Gate", "Pebble Lane", "Copper Square",
)  # fmt: skip
TRAIN_BUILDINGS: Final = (
    "Cedar Park", "Birch Hall", "Rose Corner", "Ivory Tower", "Laurel Green", "Canal View", "Silver Bank", "Falcon Rise",
    "Amber Crescent", "Meadow End", "Poplar Walk", "Stone Arch", "Hazel Grove", "Velvet Hill", "Anchor Quay", "Clover Field",
    "Summit Point", "Bramble Way", "Lantern Close", "Thistle Cross", "River Bend", "Garnet Villas", "Swallow Nest", "Elder Manor",
    "Fern Gardens", "Quarry Side", "Cobalt Towers", "Sparrow Mews", "Ginger Street", "Walnut Block", "Tulip Ring", "Mason Works",
)  # fmt: skip

# kind ; what it is called ; the action ; hours until an answer (0: days) ; wordings of the request, <p> the place
URGENT_TEXT: Final = """
leak ; the leak ; A plumber will come. ; 4 ;
    Water drips from the ceiling in <p>. | There is a leak under the sink in <p>. | A pipe is leaking in <p>.
heating ; the cold radiators ; A heating engineer will come. ; 6 ;
    The radiators stay cold in <p>. | We have no heating in <p>. | The heating is off in <p>.
lock ; the broken lock ; A locksmith will come. ; 3 ;
    The door lock is broken at <p>. | My key does not turn in the lock of <p>. | I cannot lock the door of <p>.
lift ; the stuck lift ; The lift company will come. ; 2 ;
    The lift is stuck near <p>. | The elevator does not move, I live in <p>. | The lift by <p> is out of order.
power ; the power cut ; An electrician will come. ; 5 ;
    There is no power in <p>. | All lights and sockets are dead in <p>. | The electricity went out in <p>.
gas ; the gas smell ; The gas service will come. ; 1 ;
    It smells of gas in <p>. | I notice a smell of gas in <p>. | There may be a gas leak in <p>.
toilet ; the blocked toilet ; A drain cleaner will come. ; 7 ;
    The toilet is blocked in <p>. | Our toilet does not flush in <p>. | The toilet overflows in <p>.
window ; the broken window ; A glazier will come. ; 8 ;
    A window is broken in <p>. | The window pane cracked in <p>. | The glass of a window fell out in <p>.
hot-water ; the cold water ; A boiler engineer will come. ; 9 ;
    There is no hot water in <p>. | The shower only runs cold in <p>. | The boiler gives no hot water in <p>.
alarm ; the faulty smoke alarm ; A fire warden will come. ; 12 ;
    The smoke alarm beeps all night in <p>. | The smoke detector is faulty in <p>. | Our smoke alarm does not work in <p>.
"""
EVERYDAY_TEXT: Final = """
noise ; the noise ; The caretaker will speak to the neighbours. ; 0 ;
    The neighbours are too loud above <p>. | There is loud music every night next to <p>. | Noise from next door keeps us awake in <p>.
parking ; the wrongly parked car ; The warden will check the parking bay. ; 0 ;
    Somebody parks in the bay of <p>. | A strange car stands on my space, I rent <p>. | My parking space is taken again, I live in <p>.
bins ; the full bins ; The waste team will empty the bins. ; 0 ;
    The bins are full outside <p>. | Nobody emptied the rubbish bins near <p>. | The garbage piles up by <p>.
garden ; the overgrown hedge ; The gardener will cut the hedge. ; 0 ;
    The hedge grows over the path at <p>. | The garden hedge blocks the light of <p>. | The bushes are too high in front of <p>.
mailbox ; the damaged mailbox ; The caretaker will repair the mailbox. ; 0 ;
    My mailbox is damaged, I live in <p>. | The letter box of <p> does not close. | The mailbox door fell off at <p>.
bulb ; the dark hallway ; The caretaker will change the bulb. ; 0 ;
    The hallway light is out by <p>. | A light bulb died in the corridor near <p>. | It is dark in the hallway at <p>.
paint ; the peeling paint ; A painter will look at the wall. ; 0 ;
    The paint is peeling off in <p>. | The wall paint comes off in <p>. | Paint flakes fall from the wall in <p>.
doorbell ; the silent doorbell ; A technician will test the bell. ; 0 ;
    The doorbell makes no sound at <p>. | Nobody hears my doorbell at <p>. | The bell of <p> is silent.
bikes ; the full bike room ; The caretaker will clear the racks. ; 0 ;
    Old bikes fill our bike room, I live in <p>. | I find no space for my bicycle, I live in <p>. | The bike room is too full for us in <p>.
dryer ; the broken dryer ; The laundry service will check the dryer. ; 0 ;
    The dryer does not start, I live in <p>. | The tumble dryer is broken, I live in <p>. | Our laundry dryer stays cold, we rent <p>.
"""
OPENERS: Final = ("", "", "Hello. ", "Hi there. ", "Good morning. ", "Please help. ")
PLACES: Final = ("flat <f>, <b>", "flat <f>, <b>", "flat <f> of <b>", "<b>, flat <f>")

# attribute ; kind of value ; statements about building <b> with value <v>, 51 to 100 characters when filled ; questions
FACTS_TEXT: Final = """
gate code ; code ;
    The code for the front gate of <b> is <v>. | At <b> the front gate opens with the code <v>. ;
    What is the gate code of <b>? | Which code opens the front gate of <b>? | I need the gate code for <b>.
office hours ; day ;
    The office of <b> is open on weekdays from <v>. | At <b> the office opens on weekdays from <v>. ;
    When is the office of <b> open? | What are the office hours of <b>? | When can I visit the office of <b>?
quiet hours ; night ;
    Quiet hours at <b> last every night from <v>. | At <b> tenants keep quiet hours every night from <v>. ;
    What are the quiet hours at <b>? | When must it be quiet at <b>? | From when to when are quiet hours at <b>?
paper waste ; weekly ;
    Paper waste at <b> is collected every <v>. | At <b> the paper waste is taken away every <v>. ;
    When is paper waste collected at <b>? | On what day do they take paper waste at <b>? | When does the paper waste go at <b>?
visitor parking ; bays ;
    Visitors of <b> may park their cars in bays <v>. | At <b> visitors may park in the bays <v>. ;
    Where may visitors of <b> park their cars? | Which parking bays are for visitors of <b>? | In which bays may visitors park at <b>?
caretaker extension ; extension ;
    The caretaker of <b> answers the phone on extension <v>. | At <b> the caretaker can be called on extension <v>. ;
    How can I call the caretaker of <b>? | Which phone extension has the caretaker of <b>? | What is the extension of the caretaker at <b>?
caretaker round ; weekly ;
    The caretaker of <b> walks a round every <v>. | At <b> the round of the caretaker is every <v>. ;
    When is the caretaker's round at <b>? | When does the caretaker of <b> walk a round? | On what day is the caretaker's round at <b>?
guest network ; network ;
    The guest network of <b> has the name <v>. | At <b> the wireless guest network is called <v>. ;
    What is the guest network of <b> called? | What is the name of the guest network at <b>? | Which wireless guest network is at <b>?
deposit ; money ;
    New tenants of <b> pay a deposit of <v>. | At <b> new tenants pay a deposit of <v>. ;
    How high is the deposit at <b>? | What deposit do new tenants of <b> pay? | How much is the deposit for new tenants at <b>?
inspection ; date ;
    The yearly inspection of <b> takes place on <v>. | At <b> the yearly inspection is held on <v>. ;
    When is the yearly inspection of <b>? | On what date is the inspection at <b>? | When does <b> have its yearly inspection?
laundry ; price ;
    One wash in the laundry room of <b> costs <v>. | At <b> a wash in the laundry room costs <v>. ;
    What does a wash cost in the laundry of <b>? | How much is a wash at <b>? | What is the laundry price at <b>?
bike key ; hook ;
    The key of the bike room at <b> hangs on hook <v>. | At <b> the bike room key hangs on hook <v>. ;
    Where is the bike room key of <b>? | On which hook is the bike room key at <b>? | Where does the key of the bike room hang at <b>?
water meter ; meter ;
    The main water meter of <b> has the number <v>. | At <b> the water meter carries the number <v>. ;
    What is the water meter number of <b>? | Which number has the water meter at <b>? | I need the number of the water meter at <b>.
"""
DAYS: Final = tuple(calendar.day_name)[:6]
MONTHS: Final = tuple(calendar.month_name)[1:]


class Kind(NamedTuple):
    """One kind of maintenance request."""

    name: str
    called: str
    action: str
    hours: int
    requests: tuple[str, ...]


class Request(NamedTuple):
    """A request, the reply that keeps every rule, and what tells it apart: kind, flat and building."""

    question: str
    full: str
    historic: str
    kind: str
    place: tuple[str, str]


class Attribute(NamedTuple):
    name: str
    value: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]


class Fact(NamedTuple):
    """One fact about one building; ``attribute`` holds the wordings."""

    building: str
    attribute: Attribute
    value: str
    statement: str


def _fields(text: str) -> list[list[str]]:
    """The rows of a table: fields parted by semicolons; an indented line goes on with the row above it."""
    return [line.split(" ; ") for line in re.sub(r" ;\n +", " ; ", text).strip().splitlines()]


def _kinds(text: str) -> tuple[Kind, ...]:
    return tuple(
        Kind(name, called, action, int(hours), tuple(ways.split(" | "))) for name, called, action, hours, ways in _fields(text)
    )


URGENT: Final = _kinds(URGENT_TEXT)
EVERYDAY: Final = _kinds(EVERYDAY_TEXT)
ATTRIBUTES: Final = tuple(
    Attribute(name, value, tuple(statements.split(" | ")), tuple(questions.split(" | ")))
    for name, value, statements, questions in _fields(FACTS_TEXT)
)


def request(kind: Kind, rng: random.Random, split: Split, buildings: tuple[str, ...]) -> Request:
    """A request of the kind from a flat of the split in one of ``buildings``."""
    while True:
        flat, building = f"{rng.randint(1, 60)}{rng.choice('ABCDEF')}", rng.choice(buildings)
        if belongs(f"{flat} {building}", split):
            break
    place = rng.choice(PLACES).replace("<f>", flat).replace("<b>", building)
    question = rng.choice(OPENERS) + rng.choice(kind.requests).replace("<p>", place)
    historic = f"Thank you for reporting {kind.called} at flat {flat}, {building}. {kind.action}"
    hours = "1 hour" if kind.hours == 1 else f"{kind.hours} hours"
    timeline = f"You will hear from us within {hours}." if kind.hours else LATER
    full = f"{historic} {timeline}"
    return Request(question, full, full if kind.hours else historic, kind.name, (flat, building))


def requests(
    kinds: tuple[Kind, ...], rng: random.Random, split: Split, buildings: tuple[str, ...], count: int, taken: set[str]
) -> list[Request]:
    """``count`` requests spread evenly over the kinds, shuffled; no question twice, none in ``taken``, to which they are added."""
    made: list[Request] = []
    while len(made) < count:
        one = request(kinds[len(made) % len(kinds)], rng, split, buildings)
        if one.question not in taken:
            taken.add(one.question)
            made.append(one)
    rng.shuffle(made)
    return made


def value(kind: str, rng: random.Random) -> str:
    """A value that nobody guesses: thousands of equally likely ones for each kind."""
    minute = rng.randrange(0, 60, 5)
    match kind:
        case "code":
            return str(rng.randint(10_000, 99_999))
        case "day":
            return f"{rng.randint(6, 10):02d}:{minute:02d} to {rng.randint(13, 18)}:{rng.randrange(0, 60, 5):02d}"
        case "night":
            return f"{rng.randint(20, 23)}:{minute:02d} to {rng.randint(5, 8):02d}:{rng.randrange(0, 60, 5):02d}"
        case "weekly":
            return f"{rng.choice(DAYS)} at {rng.randint(6, 18):02d}:{minute:02d}"
        case "bays":
            letter, first = rng.choice("ABCDEFGHJK"), rng.randint(2, 60)
            return f"{letter}{first} to {letter}{first + rng.randint(3, 30)}"
        case "extension":
            return str(rng.randint(2000, 9999))
        case "network":
            stem = rng.choice(("moss", "reed", "fern", "dune", "cove", "brook", "glade", "ridge", "marsh", "heath"))
            return f"{stem}-{rng.randint(100, 9999)}"
        case "money":
            return f"{rng.randrange(605, 2990, 5)} euros"
        case "date":
            return f"{rng.randint(1, 28)} {rng.choice(MONTHS)} at {rng.randint(8, 17):02d}:{minute:02d}"
        case "price":
            return f"{rng.randint(1, 6)}.{rng.randint(10, 99)} euros"
        case "hook":
            return f"{rng.choice('KLMNPRST')}{rng.randint(100, 999)}"
        case _:
            return f"W-{rng.randint(10_000, 99_999)}"


def fact(building: str, attribute: Attribute, rng: random.Random) -> Fact:
    """A fresh fact, in one of its wordings."""
    drawn = value(attribute.value, rng)
    statement = rng.choice(attribute.statements).replace("<b>", building).replace("<v>", drawn)
    return Fact(building, attribute, drawn, statement)


def asked(one: Fact, rng: random.Random) -> str:
    """A question that the fact answers."""
    return rng.choice(one.attribute.questions).replace("<b>", one.building)


def distractor(one: Fact, rng: random.Random, buildings: tuple[str, ...]) -> Fact:
    """A passage like those that retrieval brings along: another fact of the building, or the same fact of another building."""
    if rng.random() < 0.5:
        return fact(one.building, rng.choice([other for other in ATTRIBUTES if other != one.attribute]), rng)
    return fact(rng.choice([other for other in buildings if other != one.building]), one.attribute, rng)


def knowledge(rng: random.Random) -> list[Fact]:
    """The knowledge base: every attribute of every known building."""
    return [fact(building, attribute, rng) for building in KNOWN_BUILDINGS for attribute in ATTRIBUTES]
