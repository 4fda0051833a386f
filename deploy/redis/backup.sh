#!/bin/sh
# Writes the log of a Redis that goes on running to standard output, as a tar: backup.sh FOLDER > redis.tar
# FOLDER is Redis's `dir`. To restore, unpack the tar in the empty folder of a Redis that does not run.
#
# The log is several files, and a manifest that names them. Redis replaces some of them, and the manifest, whenever it
# rewrites the log: a copy is one only if the manifest is the same before and after. What is appended meanwhile is cut off
# somewhere; a script that is cut in two is left out as a whole when the copy is read.
set -eu
cd "$1"
# While Redis replaces the manifest, there is a second one for a moment, whose name begins with temp-.
manifest=$(ls appendonlydir | grep '\.manifest$' | grep -v '^temp-') || {
    echo "backup.sh: no manifest of a log in $1/appendonlydir" >&2
    exit 1
}
copy=$(mktemp -d ./backup.XXXXXX)
trap 'rm -rf "$copy"' EXIT
trap 'exit 1' INT TERM
mkdir "$copy/appendonlydir"
for _ in 1 2 3 4 5 6 7 8 9 10; do
    if cp "appendonlydir/$manifest" "$copy/appendonlydir" \
        && cp appendonlydir/*.[0-9]*.* "$copy/appendonlydir" \
        && cmp -s "appendonlydir/$manifest" "$copy/appendonlydir/$manifest"
    then
        tar -c -C "$copy" appendonlydir
        exit
    fi
    rm -f "$copy"/appendonlydir/*
    sleep 1
done
echo "backup.sh: no copy in ten tries: the log was rewritten during each, or the disk is full" >&2
exit 1
