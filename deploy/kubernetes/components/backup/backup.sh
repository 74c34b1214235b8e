#!/bin/sh
# One backup of the log into the directory $1: the first of a day is a full one, each later one continues it. All of the
# day are verified afterwards, with the certificates in $2 (DIR/service-keys/ID.pem) where it is given.
# To restore: stop every service, then `tintype admin restore DAY.*.tintype`.
set -eu
umask 077
cd "$1"
now=$(date -u +%Y-%m-%d.%H%M%S)
day=${now%.*}
newest=
for file in "$day".*.tintype; do
    [ ! -e "$file" ] || newest=$file
done
tintype admin backup "$now.tintype" ${newest:+--since "$newest"}
tintype admin check-backup "$day".*.tintype ${2:+--trust-store "$2"}
