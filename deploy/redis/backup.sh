#!/bin/sh
# Writes the append-only log of a running Redis to standard output, as a tar: backup.sh FOLDER > redis.tar
# FOLDER is Redis's `dir`. To restore, unpack the tar in the empty folder of a stopped Redis.
#
# The log consists of several files and a manifest that lists them. A rewrite of the log replaces some of the files and the
# manifest, so a copy is valid only if the manifest is the same before and after. The copy ends somewhere in what is appended
# meanwhile. If it ends within a script's writes, Redis skips that whole script when it reads the copy.
set -eu
cd "$1"
# While Redis replaces the manifest, a second one exists for a moment. Its name begins with temp-.
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
echo "backup.sh: no copy in ten attempts: the log was rewritten during each, or the disk is full" >&2
exit 1
