"""Word lists for the starter model's practice rows. Written for the project; nothing is copied from a text."""

from typing import Final

ONSETS: Final = "b d f g h j k l m n p r s t v w z br dr fr gr kr pl pr sk sl st tr th sh ch kl bl gl vr sn y qu".split()
VOWELS: Final = "a e i o u a e i o ai ea ou oo y ei ia".split()
CODAS: Final = ["", "", "", "", *"n r l s k m t x nd rk st sh v p th ll ng rn".split()]

NOUNS: Final = """
lamp bridge lantern kettle drum wagon compass blanket ladder mirror pump boiler engine rocket antenna beacon anchor sail
barrel basket bottle bowl brush bucket button cabinet candle carpet chair clock coat coin crate cup curtain desk
flag flute fork fountain garden gate glove hammer harp hat helmet jacket jar key kite knife map mask medal needle
oven paddle painting pedal pencil piano pillow pipe plate pot quilt radio raft ring robot rope ruler saddle scarf
screen shield shovel spoon statue stove sword table tent ticket tower toy tray truck tunnel umbrella valve vase violin
wheel whistle window boat cart train tram ferry glider submarine museum gallery library theatre market bakery orchard
vineyard harbour island lake river mountain valley forest desert planet moon comet crater glacier volcano canyon castle
temple palace stadium academy clinic factory mill mine observatory aquarium workshop studio archive festival parade
otter heron badger falcon lynx tortoise penguin walrus gecko beaver parrot camel rabbit donkey owl salmon beetle
soup stew pie bread cheese noodle salad pudding pancake sauce tea coffee juice syrup honey spice herb mushroom pepper
course lesson exam league match player coach singer band song novel poem letter stamp puzzle game card dice rule badge
order parcel invoice refund delivery booking menu catalogue manual guide report notice record folder photo film camera
battery charger cable sensor printer scanner keyboard monitor speaker phone tablet server router signal channel meter
""".split()
ADJECTIVES: Final = """
red blue green black white yellow silver golden copper wooden iron stone glass paper silk woollen leather plastic old
new young small large tall short narrow wide heavy light round square flat deep quiet loud bright dark early late warm
cold dry wet fast slow spare main north south east west upper lower inner outer left right second third public private
royal ancient modern portable electric folding striped spotted painted hidden famous local daily weekly annual
""".split()
VERBS: Final = """
collect return carry clean repair paint open close lock store sort check count weigh measure pack wrap send receive
borrow lend rent buy sell order cancel change book reserve report inspect test charge fill empty wash dry cook bake
serve feed watch guard guide teach learn study read write sign print copy record film play practise visit leave enter
cross climb plant water harvest label stamp load unload move park register renew replace request review schedule select
""".split()
PEOPLE: Final = """
visitors members guests players students teachers drivers pilots sailors farmers bakers painters singers readers guards
keepers guides cooks nurses doctors engineers miners hikers campers cyclists swimmers divers judges clerks porters
children parents volunteers apprentices collectors travellers passengers captains gardeners musicians
""".split()
ATTRIBUTES: Final = """
weight height length width depth speed range price cost fee age colour shape size material owner maker designer keeper
captain manager guide origin home code number label model version password symbol motto nickname sister city region
street floor room gate platform dock shelf opening closing departure arrival start end deadline limit capacity budget
score rank level power voltage pressure temperature frequency flavour filling topping texture scent sound language
currency founder sponsor rival partner successor teacher diet habitat lifespan purpose status priority phase category
contact phone email address delay duration interval warranty deposit discount licence permit badge team crew
""".split()
DAYS: Final = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS: Final = "January February March April May June July August September October November December".split()
UNITS: Final = (
    "kg grams tonnes metres km miles litres volts watts degrees percent points seats pages steps coins tokens boxes".split()
)
PLACES: Final = "room hall gate desk shelf dock platform locker counter bay level floor pier tent window drawer".split()
ENDINGS: Final = "txt csv log md json yaml py sh conf html png jpg pdf zip gz xml ini sql toml bak".split()

# Words that later skills are likely to need (letters to customers, shell commands, small programs). They appear only
# alone and in random order: to shape the tokenizer, and to be copied, so that every token has a trained embedding.
# None of them is ever shown in use.
COMMON: Final = """
the of and to in is you that it he was for on are as with his they at be this have from or one had by word but not what
all were we when your can said there use an each which she do how their if will up other about out many then them these
so some her would make like him into time has look two more write go see number no way could people my than first water
been call who its now find long down day did get come made may part over after also back please thank thanks dear sorry
hello regards sincerely kindly soon today tomorrow tonight morning afternoon evening week month year hour minute within
before until between during because however although team support request issue problem help contact received working
apologise apologies inconvenience technician visit appointment repair rent lease tenant landlord building apartment unit
kitchen bathroom bedroom heating radiator leak tap toilet shower sink plumber electrician locksmith neighbour noise
parking garage elevator lift stairs laundry garbage recycling mould pest paint move balcony roof door lobby keys fob
payment pay paid due balance account bank transfer receipt statement contract policy notice insurance emergency urgent
maintenance schedule scheduled confirm confirmed update send sent reply answer question office opening hours working
file files folder folders directory list show find search count lines line words text string pattern match matching
recursively delete remove create rename copy move print display sort unique first last largest smallest size disk usage
space process processes running kill port user users permission permissions owner group change executable compress archive
extract download upload ping host network address interface variable environment value key values current parent hidden
modified older newer than days empty containing named called ending starting replace every occurrence column field
ls cd cp mv rm mkdir rmdir touch cat head tail grep egrep sed awk cut tr uniq wc find xargs chmod chown chgrp ln tar
gzip gunzip unzip zip curl wget ssh scp rsync ping ps kill pkill top df du free uname whoami echo export env which man
git commit push pull clone branch checkout merge status diff log docker kubectl pip npm sudo apt systemctl journalctl
name type exec print0 iname maxdepth mtime newer recursive force verbose help rwx usr bin var log etc tmp home opt dev
null bash root src lib main test tests data config backup build dist docs images static public scripts logs
def return for while if elif else import from as class self None True False lambda yield with open try except finally
raise pass break continue in not and or is len range print sum min max sorted reversed enumerate zip map filter list
dict set tuple str int float bool append extend insert pop remove index join split strip lower upper replace format
startswith endswith items keys values get update add items isdigit isalpha sqrt math random json os sys re path read
write readlines result numbers items word words value values item total count average function returns check reverse
string strings even odd prime factorial palindrome vowels square cube power maximum minimum duplicates flatten merge
celsius fahrenheit temperature distance area circle rectangle triangle radius height width name age email
answer passages passage question cite source citation say according given following form fill keys value JSON
""".split()
SYMBOLS: Final = list("/-_.:;,*|&$#@!?()[]{}<>=+~%^'\"\\`") + (
    "-- -> => == != <= >= += && || >> :: () [] {} '' \"\" ./ ../ */ /* ** // ${ $( *. -n -r -l -f -a -i -v -name "
    "): (' ') (\" \\n".split()
)
FILLERS: Final = """
Please ask at the desk if anything is unclear.
More details are given in the yearly report.
The list is checked every month.
Nothing else has changed since last year.
This note replaces the older one.
Many people have asked about this.
Some of these were found by chance.
Thank you for reading this carefully.
""".strip().splitlines()
