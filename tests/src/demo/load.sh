#!/bin/bash
# Requests without pause until the file $1 exists, each by a new process, the command that follows.
# A line each: when it began, when it ended, its exit status, what it printed.
LC_ALL=C
stop=$1
shift
while ! test -e "$stop"; do
    began=$EPOCHREALTIME
    body=$("$@" 2>&1)
    status=$?
    echo "$began $EPOCHREALTIME $status ${body//$'\n'/ }"
done
