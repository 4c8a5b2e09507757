"""What the router learns from and is asked: wordings of people for each agent, and talk that is nobody's business here.

Lines under ``train`` and ``unseen`` never mix: other wordings, other things, and some topics that only the unseen part has.
"""

import random
from typing import Final

from data_jobs.samples_values import Split

# Free wordings, unlike the requests that the agents are trained on. A line each.
WORDINGS: Final[dict[str, dict[Split, str]]] = {
    "linux": {
        "train": """
How do I see which folder eats my disk?
What is the command to list hidden files?
My server is out of disk space, how do I find the culprit?
How do I make a script executable?
Show me the IP address of this machine.
How can I see the running processes sorted by memory?
What is the shell command to rename a file?
How do I follow a log file live?
I need to copy a directory to another server.
How do I search for a word in all files of a folder?
Which command shows the kernel version?
How do I mount a USB stick in the terminal?
Schedule a cron job that runs every night.
How do I unpack a tar.gz archive?
Show the environment variables of my shell.
How can I find out who is logged in on the server?
Stop a daemon that hangs.
Which packages are installed with apt?
How do I change file ownership recursively?
What does chmod 755 do?
How do I give a user sudo rights?
Which group does my account belong to on this server?
Generate an ssh key pair.
How do I sort a text file and drop double lines?
Show the contents of a zip file in the terminal.
How do I edit my crontab?
Why does bash say permission denied?
How do I see open network ports?
Which shell command deletes a folder with all its files?
Show how long the machine has been running.
""",
        "unseen": """
How can I tell which process keeps port 443 busy?
Remove all .tmp files older than a week from a directory.
What is the bash command to compare two files?
How do I check the uptime of a Linux box?
Give me a one-liner that lists the ten largest files.
How do I run a command in the background after logout?
Which command shows free memory?
How do I create a symlink to a folder?
Let me see the last boot messages of the kernel.
How can I add a user to the sudo group?
Print the second column of a text file with awk.
How do I reload the nginx service?
Is there a way to limit the depth of find?
Copy my public ssh key to a remote host.
Delete an empty directory from the terminal.
""",
    },
    "python": {
        "train": """
How do I flatten a nested list in Python?
What is the difference between a list and a tuple?
How do I catch an exception in Python?
Write a list comprehension for even numbers.
How do I merge two dictionaries?
Sort a list of tuples by the second element.
How do I read a CSV file with the csv module?
What does the yield keyword do?
How do I format a float with two decimals in an f-string?
Remove duplicates from a list and keep the order.
How do I define a class with a constructor?
Turn a string into a datetime object.
How can I iterate over keys and values of a dict?
Write a function that checks for a palindrome.
How do I use a lambda with map?
What is the Python way to swap two variables?
How do I parse JSON in Python?
Count the letters of a string with Counter.
How do I slice the last three characters of a string?
Convert a list of strings to ints.
Write a class with a method that returns its name.
What does the property decorator do?
How do I use os.path to join two paths?
Make an f-string that pads a number with zeros.
Which element of a list of dicts has the largest value?
How do I test a function with pytest?
Find the index of the smallest item in a list.
How do I make an enum?
What is the type hint for a list of strings?
How do I concatenate two strings?
""",
        "unseen": """
How do I transpose a matrix given as a list of lists?
Write a decorator that prints the arguments of a function.
How can I check if a variable is None?
Invert the keys and values of a dictionary.
What is a generator expression?
Sum the squares of a list of numbers.
How do I strip whitespace from every string in a list?
Write a dict comprehension from two lists.
How do I get the index of an item in a list?
Use a regex to split a string at digits.
How do I raise a ValueError with a message?
Create a dataclass with two fields.
How do I round a number to one decimal in Python?
Chain two iterators with itertools.
How do I check that all elements of a list are strings?
""",
    },
    "property": {
        "train": """
When will somebody fix my kitchen tap?
The washing machine in the basement is broken.
Can I paint my flat in another colour?
How do I end my lease?
When is the rent due?
I lost my keys to the front door.
There are mice in the cellar of our building.
May I keep a dog in my apartment?
Who do I call when the heating fails at night?
The stairs are icy in front of our house.
Where do I put old furniture from my flat?
My neighbour smokes on the balcony.
Can I get a second key for my flat?
The intercom of my apartment is dead.
Is subletting my apartment allowed?
There is mould in my bathroom.
The garage door of our building does not open.
When is my deposit paid back after moving out?
The cellar of our house is flooded.
I want to rent a parking space in my building.
Please put a new label with my name on the doorbell.
The letter box of our flat has no lock.
Who cleans the staircase in our building?
My tenancy agreement ends in May, what now?
The water pressure in our flat is low.
Our landlord has not sent the utility bill.
""",
        "unseen": """
The shower in my flat drips all night.
Could I sublet a room of my apartment?
The front door of our building does not close.
When will the caretaker be in our house?
My balcony door is stuck.
Who pays for a broken blind in my flat?
The rubbish chute of the building is blocked.
I need a new name plate for my mailbox.
The light in the staircase of our house flickers.
What is the notice period of my lease?
Wasps have a nest under our roof.
May I put a bicycle in the entrance hall of the building?
The kitchen sink in my apartment is clogged.
When is the next rent increase for my flat?
The intercom rings in the wrong apartment.
""",
    },
}

# Out of scope. A line each: wordings with {x} ; the things to put in.
ASIDE_TRAIN: Final = """
Who won {x}? | When does {x} start? ; the football final | the tennis open | the bicycle tour | the hockey cup | the marathon
How do I cook {x}? | Give me a recipe for {x}. ; lentil soup | apple pie | fried rice | roast chicken | pumpkin bread
Will it rain in {x}? | How warm is it in {x} today? ; Lisbon | Oslo | Nairobi | Lima | Seoul
What helps against {x}? | Is {x} a sign of an illness? ; a headache | back pain | a sore throat | hay fever | a high fever
Write a poem about {x}. | Tell me a story about {x}. ; the moon | an old sailor | autumn leaves | a lonely robot | the sea
What should I see in {x}? | How do I get to {x} by train? ; Rome | Kyoto | Vienna | Cape Town | Montreal
Should I buy shares of {x}? | How did {x} do this year? ; gold miners | car makers | a bank index | solar firms | airlines
Who was {x}? | When did {x} live? ; the first emperor of China | the inventor of the telephone | a queen of Egypt | a painter of tulips
Which film is best about {x}? | Recommend a book about {x}. ; pirates | space travel | a heist | the stone age | dragons
How long do {x} live? | What do {x} eat? ; elephants | hedgehogs | goldfish | eagles | ants
What is the meaning of {x}? | Translate {x} into Spanish. ; good evening | thank you very much | happiness | friendship
Teach me {x} on the guitar. | Which key is {x} in? ; a blues scale | a love song | an old folk tune
How do I grow {x}? | When should I plant {x}? ; tomatoes | roses | strawberries | sunflowers
What is {x} in physics? | Explain {x} to a child. ; gravity | a black hole | entropy | magnetism
Who should I vote for in {x}? | Who is president of {x}? ; France | Brazil | the United States | Kenya
Which {x} should I buy? | What is a good price for {x}? ; running shoes | a camera | a guitar | an electric car
Hello, {x} | Good morning, {x} ; how are you? | who are you? | nice to meet you. | what can you do?
Tell me a joke about {x}. | Sing a song about {x}. ; penguins | teachers | a snowman
What is {x}? ; the capital of Norway | the highest mountain of Africa | seven times eight | the square root of 81 | the speed of sound
How do I {x}? ; lose weight | learn French fast | tie a tie | meditate | fall asleep | play chess | fix a flat tyre | train my dog
"""
ASIDE_UNSEEN: Final = """
Which team leads {x}? | Who scored most goals in {x}? ; the basketball league | the rugby season | the handball cup
What spices go into {x}? | How long do I bake {x}? ; a vegetable curry | banana muffins | a lasagne
Is a storm coming to {x} tomorrow? | What is the forecast for {x}? ; Helsinki | Denver | Hanoi
How much water should I drink with {x}? | Which doctor treats {x}? ; a cold | a sprained ankle | migraine
Write a limerick about {x}. | Make up a fairy tale with {x}. ; a sleepy cat | two frogs | a blue dragon
Find me a cheap flight to {x}. | Which beach is nicest near {x}? ; Athens | Bali | Miami
What will the price of {x} be next month? | Should I invest in {x}? ; bitcoin | crude oil | silver
What does {x} mean in the horoscope? | What is lucky for {x} today? ; Taurus | Scorpio | Leo
How do I knit {x}? | Which yarn is right for {x}? ; a scarf | baby socks | a jumper
When did {x} end? | Why did {x} begin? ; the Roman empire | the second world war | the French revolution
Who sings {x}? | In which year was {x} in the charts? ; that song about rain | the hit of last summer
What should I wear to {x}? | What gift do I bring to {x}? ; a wedding | a beach party | a birthday dinner
How many legs has {x}? | How fast can {x} swim? ; a crab | an octopus | a dolphin
"""


def wordings(agent: str, split: Split) -> list[str]:
    """The free wordings for an agent."""
    return WORDINGS[agent][split].strip().splitlines()


def aside(split: Split, rng: random.Random, count: int) -> list[str]:
    """``count`` out-of-scope questions, at most; spread over the topics."""
    topics = []
    for line in (ASIDE_TRAIN if split == "train" else ASIDE_UNSEEN).strip().splitlines():
        ways, things = (part.split(" | ") for part in line.split(" ; "))
        made = [way.strip().replace("{x}", thing.strip()) for way in ways for thing in things]
        rng.shuffle(made)
        topics.append(made)
    longest = max(len(topic) for topic in topics)
    return [topic[place] for place in range(longest) for topic in topics if place < len(topic)][:count]
