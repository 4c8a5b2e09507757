"""The Linux helper's requests, each with its one right command. Slots are those of ``samples_values``."""

from typing import Final

from data_jobs.samples_values import parse

PROMPT: Final = "Write one shell command."
DESCRIPTION: Final = "Turns a request about files, processes, services and networks on a Linux machine into one shell command."

TASKS: Final = parse(r"""
# find-name
find <dir> -name '*.<ext>'
Find all <ext> files under <dir>.
List every <ext> file below <dir>.
Which files under <dir> end in .<ext>?

# find-large
find <dir> -type f -size +<small>M
Find files larger than <small> MB in <dir>.
Which files under <dir> are bigger than <small> MB?
Show me files over <small> MB below <dir>.

# find-old
find <dir> -type f -mtime +<small>
Find files in <dir> older than <small> days.
Which files under <dir> were not changed for <small> days?
List files below <dir> last modified more than <small> days ago.

# find-new
find <dir> -type f -mmin -<small>
Find files in <dir> changed in the last <small> minutes.
Which files under <dir> were modified within <small> minutes?

# find-empty
find <dir> -type d -empty
Find empty folders in <dir>.
Which folders under <dir> are empty?
List all empty directories below <dir>.

# grep
grep -rn '<pattern>' <dir>
Search for '<pattern>' in all files under <dir>.
Where does '<pattern>' occur below <dir>?
Look for the text '<pattern>' in the folder <dir>.

# grep-count
grep -c '<pattern>' <file>
Count the lines in the file <file> that contain '<pattern>'.
How many lines in <file> have '<pattern>'?

# tar-create
tar -czf <stem>.tar.gz <dir>
Pack <dir> into <stem>.tar.gz.
Compress the folder <dir> as <stem>.tar.gz.
Make an archive <stem>.tar.gz of <dir>.

# tar-extract
tar -xzf <stem>.tar.gz -C <dir>
Unpack <stem>.tar.gz into <dir>.
Extract the archive <stem>.tar.gz to <dir>.

# chmod
chmod <mode> <file>
Set the permissions of <file> to <mode>.
Give <file> mode <mode>.
Change the mode of <file> to <mode>.

# chown
chown -R <user> <dir>
Make <user> the owner of everything in <dir>.
Change the owner of <dir> to <user>, with all its contents.
Give the folder <dir> and all in it to user <user>.

# du
du -sh <dir>
How big is <dir>?
Show the total size of <dir>.
How much space does the folder <dir> take?

# df
df -h <dir>
How much disk space is free on <dir>?
Show free and used space of the disk at <dir>.

# ps-user
ps -u <user>
Show the processes of <user>.
Which processes does user <user> run?
List what <user> is running.

# kill
kill -9 <number>
Kill process <number> at once.
Force the process with id <number> to end.
Stop process <number> by force.

# kill-user
pkill -u <user>
Kill all processes of <user>.
End everything that user <user> runs.

# sed
sed -i 's/<key>/<key2>/g' <file>
Replace <key> by <key2> throughout the file <file>.
Change every <key> to <key2> in the file <file>.
Substitute <key2> for all <key> in <file>.

# head
head -n <small> <file>
Show the first <small> lines of <file>.
Print the top <small> lines of the file <file>.

# tail
tail -n <small> <file>
Show the last <small> lines of <file>.
Print the final <small> lines of the file <file>.

# tail-follow
tail -f <file>
Follow <file> as it grows.
Keep showing new lines of <file>.
Watch <file> for new lines.

# sort-uniq
sort <file> | uniq -c
Count how often each line occurs in the file <file>.
How many times is each line in the file <file>?

# cut
cut -d, -f<power> <file>
Print column <power> of the comma separated file <file>.
Show only field <power> of <file>, split at commas.

# wc
wc -l <file>
How many lines does the file <file> have?
Count the lines of the file <file>.

# cp
cp -r <dir> <dir2>
Copy the folder <dir> to <dir2>.
Make a copy of <dir> at <dir2>.

# mv
mv <file> <dir>
Move <file> to <dir>.
Put <file> into the folder <dir>.

# ln
ln -s <dir> <dir2>
Make a symbolic link <dir2> that points to <dir>.
Link <dir> as <dir2>.

# rsync
rsync -av <dir> <host>:<dir2>
Sync <dir> to <dir2> on <host>.
Mirror the folder <dir> to <host> under <dir2>.

# ssh
ssh <user>@<host>
Log in to <host> as <user>.
Open a shell on <host> as user <user>.

# curl
curl -o <file> https://<host>/<file>
Download <file> from <host>.
Fetch <file> from the server <host>.

# systemctl-restart
systemctl restart <service>
Restart the service <service>.
Start <service> again.

# systemctl-status
systemctl status <service>
Is the service <service> running?
Show the status of <service>.

# journalctl
journalctl -u <service> -n <small>
Show the last <small> log entries of <service>.
Print <small> recent journal lines of the service <service>.

# lsof
lsof -i :<port>
Which process uses port <port>?
What is listening on port <port>?

# ping
ping -c <small> <host>
Ping <host> <small> times.
Send <small> pings to <host>.

# git-branch
git checkout -b <branch>
Create the git branch <branch> and switch to it.
Start a new branch named <branch>.

# useradd
useradd -m <user>
Add a user <user> with a home folder.
Create the account <user> with its home directory.
""")
