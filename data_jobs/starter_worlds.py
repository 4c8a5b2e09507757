"""Small invented worlds: which facts are told of their things, in which words, and how one asks for them.

The worlds are far from any shipped agent's field on purpose: the starter learns how to look up, not what to answer.
"""

from typing import Final, NamedTuple

# One world a block: its name, then `kind ; statements ; questions`, alternatives parted by bars. {e} the entity, {v} its value.
WORLDS_TEXT: Final = """
# zoo
measure ; {e} weighs {v}.|The keepers found that {e} weighs {v}. ; How much does {e} weigh?|What does {e} weigh?
thing ; {e} eats {v} every day.|The favourite food of {e} is {v}. ; What does {e} eat?|What is {e} fed with?
time ; {e} is fed at {v}.|Feeding of {e} starts at {v}. ; When is {e} fed?|At what time is {e} fed?
name ; {e} was born in {v}.|{e} came from {v}. ; Where was {e} born?|Where did {e} come from?
# museum
hours ; {e} is open {v}.|{e} can be visited {v}. ; When is {e} open?|When can {e} be visited?
money ; A ticket for {e} costs {v}.|Entry to {e} is {v}. ; How much is a ticket for {e}?|What does entry to {e} cost?
name ; {e} was made by {v}.|{v} made {e}. ; Who made {e}?|By whom was {e} made?
place ; {e} is shown in {v}.|Visitors find {e} in {v}. ; Where is {e} shown?|Where do visitors find {e}?
# ship
name ; The captain of {e} is {v}.|{v} commands {e}. ; Who commands {e}?|Who is the captain of {e}?
number ; {e} carries {v} passengers.|There is space for {v} passengers on {e}. ; How many passengers does {e} carry?
place ; {e} lies at {v}.|{e} docks at {v}. ; Where does {e} dock?|Where does {e} lie?
measure ; The top speed of {e} is {v}.|{e} reaches a speed of {v}. ; How fast is {e}?|What is the top speed of {e}?
# recipe
listing ; {e} is made from {v}.|You need {v} for {e}. ; What is {e} made from?|What do you need for {e}?
duration ; {e} bakes for {v}.|It takes {v} to make {e}. ; How long does {e} bake?|How long does it take to make {e}?
name ; {e} was first cooked by {v}.|{v} invented {e}. ; Who first cooked {e}?|Who invented {e}?
# gadget
code ; The code of {e} is {v}.|{e} carries the code {v}. ; What is the code of {e}?|Which code does {e} carry?
duration ; The battery of {e} lasts {v}.|{e} runs for {v}. ; How long does the battery of {e} last?|How long does {e} run?
path ; {e} stores its data in {v}.|The data of {e} is kept in {v}. ; Where does {e} store its data?|Where is the data of {e} kept?
identifier ; {e} is switched on with {v}.|Use {v} to switch on {e}. ; How is {e} switched on?|What switches on {e}?
# line
time ; {e} leaves at {v}.|The first departure of {e} is at {v}. ; When does {e} leave?|At what time does {e} leave?
place ; {e} stops at {v}.|You can board {e} at {v}. ; Where does {e} stop?|Where can you board {e}?
measure ; {e} is {v} long.|The length of {e} is {v}. ; How long is {e}?|What is the length of {e}?
# person
thing ; {e} collects {v}.|The hobby of {e} is {v}. ; What does {e} collect?|What is the hobby of {e}?
phone ; {e} can be called on {v}.|The number of {e} is {v}. ; On which number can {e} be called?|How can {e} be reached?
email ; Letters for {e} go to {v}.|{e} answers mail at {v}. ; What is the address of {e}?|Where do letters for {e} go?
name ; {e} works with {v}.|{v} is the partner of {e}. ; Who works with {e}?|Who is the partner of {e}?
place ; {e} lives in {v}.|The home of {e} is {v}. ; Where does {e} live?|What is the home of {e}?
# event
date ; {e} takes place on {v}.|{e} is held on {v}. ; When does {e} take place?|On what day is {e} held?
name ; {e} was won by {v}.|{v} won {e}. ; Who won {e}?|By whom was {e} won?
money ; The prize of {e} is {v}.|The winner of {e} gets {v}. ; What is the prize of {e}?|What does the winner of {e} get?
# club
duration ; Membership of {e} lasts {v}.|You can stay in {e} for {v}. ; How long does membership of {e} last?
money ; {e} asks for a fee of {v}.|Joining {e} costs {v}. ; What is the fee of {e}?|How much does it cost to join {e}?
hours ; {e} meets {v}.|Meetings of {e} run {v}. ; When does {e} meet?|When do meetings of {e} run?
# spell
quoted ; The word for {e} is {v}.|Say {v} to cast {e}. ; What is the word for {e}?|What do you say to cast {e}?
thing ; {e} turns stones into {v}.|{e} makes {v} appear. ; What does {e} do?|What does {e} turn stones into?
# lighthouse (held out)
measure ; {e} shines as far as {v}.|The light of {e} is seen from {v} away. ; How far does {e} shine?|From how far is {e} seen?
name ; {e} is kept by {v}.|{v} lights {e} every night. ; Who keeps {e}?|Who lights {e}?
date ; {e} was first lit on {v}.|The lamp of {e} was changed on {v}. ; When was {e} first lit?
code ; {e} flashes {v}.|The signal of {e} is {v}. ; What does {e} flash?|What is the signal of {e}?
"""
HELDOUT_WORLD: Final = "lighthouse"


class Template(NamedTuple):
    """One way to state facts of one kind, and to ask for them."""

    kind: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]


def parse_worlds(text: str) -> dict[str, list[Template]]:
    """Reads WORLDS_TEXT into templates by world."""
    worlds: dict[str, list[Template]] = {}
    for line in filter(None, text.splitlines()):
        if line.startswith("# "):
            world = line.split()[1]
            worlds[world] = []
        else:
            kind, statements, questions = (part.strip() for part in line.split(" ; "))
            worlds[world].append(Template(kind, tuple(statements.split("|")), tuple(questions.split("|"))))
    return worlds


WORLDS: Final = parse_worlds(WORLDS_TEXT)
TRAIN_WORLDS: Final = [world for world in WORLDS if world != HELDOUT_WORLD]
