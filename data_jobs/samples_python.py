"""The Python helper's requests, each with its one right line of code. Slots are those of ``samples_values``."""

from typing import Final

from data_jobs.samples_values import parse

PROMPT: Final = "Write one line of Python."
DESCRIPTION: Final = (
    "Writes one line of Python: expressions on lists, dictionaries and strings, small functions, files and dates."
)

TASKS: Final = parse(r"""
# multiply
[x * <small> for x in <list>]
Multiply every item of <list> by <small>.
A list with each value of <list> times <small>.

# filter
[x for x in <list> if x > <number>]
Keep the items of <list> above <number>.
All values in <list> greater than <number>.

# sort-key
sorted(<list>, key=lambda x: x['<key>'])
Sort <list> by the key '<key>'.
Order the dicts in <list> by '<key>'.

# sort-reverse
sorted(<list>, reverse=True)
Sort <list> from high to low.
Give <list> in descending order.

# get
<dict>.get('<key>', <number>)
Get '<key>' from <dict>, or <number> if missing.
Value of '<key>' in the dict <dict> with default <number>.

# has-key
'<key>' in <dict>
Does the dict <dict> have the key '<key>'?
Check that '<key>' is a key of <dict>.

# delete-key
del <dict>['<key>']
Remove the key '<key>' from <dict>.
Delete '<key>' out of the dict <dict>.

# read-lines
open('<file>').read().splitlines()
Read '<file>' into a list of lines in Python.
Load the lines of '<file>' as a Python list.

# write-file
open('<file>', 'w').write(<text>)
Write the string <text> to '<file>'.
Save the variable <text> in '<file>'.

# f-string
f'<key>: {<name>}'
An f-string that shows '<key>: ' and then <name>.
Format the variable <name> after the label '<key>: '.

# first
<list>[:<small>]
Take the first <small> items of <list>.
Slice the <small> leading elements off <list>.

# last
<list>[-<small>:]
Take the last <small> items of <list>.
Slice the final <small> elements of <list>.

# join
'<sep>'.join(<list>)
Join <list> with '<sep>'.
Make one string of <list>, separated by '<sep>'.

# split
<text>.split('<sep>')
Split <text> at '<sep>'.
Break the string <text> into parts at each '<sep>'.

# difference
set(<list>) - set(<list2>)
Items of <list> that are not in <list2>.
What is in <list> but not in <list2>?

# sum
sum(x['<key>'] for x in <list>)
Sum the '<key>' of all dicts in <list>.
Add up '<key>' over <list>.

# max
max(<list>, key=lambda x: x['<key>'])
Find the dict in <list> with the largest '<key>'.
Which element of <list> has the highest '<key>'?

# int-or
int(<text>) if <text>.isdigit() else <number>
Convert <text> to an int, or <number> if it is no number.
Parse the string <text> as int with fallback <number>.

# enumerate
for i, x in enumerate(<list>, <small>): print(i, x)
Print the items of <list> numbered from <small>.
Loop over <list> and print index and item, starting at <small>.

# zip
dict(zip(<list>, <list2>))
Make a dict with keys <list> and values <list2>.
Pair <list> with <list2> as a dict.

# json-loads
import json; <dict> = json.loads(<text>)
Parse the JSON string <text> into <dict>.
Decode JSON from <text> and call it <dict>.

# json-dump
import json; json.dump(<dict>, open('<file>', 'w'))
Save <dict> as JSON to '<file>'.
Dump the dict <dict> into '<file>' as JSON.

# def
def <name>(x): return x + <number>
Define a function <name> that adds <number> to its argument.
Write a function <name> returning x plus <number>.

# lambda
<name> = lambda x: x ** <power>
Make <name> a lambda that raises x to the power <power>.
A lambda named <name> for x to the power of <power>.

# findall
import re; re.findall('<key>', <text>)
Find all matches of '<key>' in <text> with a regex.
Use re to list every '<key>' in the string <text>.

# replace
<text>.replace('<key>', '<key2>')
Replace '<key>' by '<key2>' in the string <text>.
Swap each '<key>' for '<key2>' in the variable <text>.

# startswith
[x for x in <list> if x.startswith('<key>')]
Strings in <list> that start with '<key>'.
Keep the items of <list> beginning with '<key>'.

# count
<list>.count('<key>')
How often is '<key>' in <list>?
Count '<key>' in the list <list>.

# date
from datetime import date; <name> = date(<year>)
Set <name> to the date <year>.
Make a date object <name> of <year>.

# reverse
<text>[::-1]
Reverse the string <text>.
Give <text> backwards.

# range
list(range(<power>, <number>))
A list of the integers from <power> up to, not including, <number>.
List the numbers from <power> to below <number>.

# round
round(<name>, <power>)
Round <name> to <power> decimals.
Give <name> with <power> digits after the point.

# exists
import os; os.path.exists('<file>')
Check with os that '<file>' exists.
Use os.path to see if '<file>' exists.

# any
any(x == <number> for x in <list>)
Is any item of <list> equal to <number>?
Test whether some element of <list> equals <number>.
""")
