#!/bin/bash
# POSTGRES_USER, POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE, POSTGRES_DB, PGDATA and /docker-entrypoint-initdb.d/*.sql,
# begun as root or as the server's user: as the image it stands in for.
set -euo pipefail
[[ "${1:-}" != -* ]] || set -- postgres "$@"
as_postgres=()
((EUID != 0)) || as_postgres=(setpriv --reuid=postgres --regid=postgres --clear-groups)
[[ -z "${POSTGRES_PASSWORD_FILE:-}" ]] || POSTGRES_PASSWORD="$(<"$POSTGRES_PASSWORD_FILE")"
user="${POSTGRES_USER:-postgres}"
database="${POSTGRES_DB:-$user}"
export PGDATA="${PGDATA:-/var/lib/postgresql/data}"
[[ "${1:-}" != postgres ]] || shift

mkdir -p "$PGDATA" /run/postgresql
((EUID != 0)) || chown -R postgres "$PGDATA" /run/postgresql
chmod 700 "$PGDATA"

if [[ ! -s "$PGDATA/PG_VERSION" ]]; then
    password="$(mktemp)"
    printf '%s\n' "${POSTGRES_PASSWORD:?}" >"$password"
    ((EUID != 0)) || chown postgres "$password"
    "${as_postgres[@]}" initdb --username="$user" --pwfile="$password" \
        --auth-host=scram-sha-256 --auth-local=trust --encoding=UTF8 --no-locale >/dev/null
    rm "$password"
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    "${as_postgres[@]}" pg_ctl --wait --options="-c listen_addresses=''" start >/dev/null
    [[ "$database" == postgres ]] || psql --username="$user" --dbname=postgres --quiet --command="CREATE DATABASE \"$database\""
    for file in /docker-entrypoint-initdb.d/*.sql; do
        [[ ! -f "$file" ]] || psql --username="$user" --dbname="$database" --quiet --file="$file"
    done
    "${as_postgres[@]}" pg_ctl --wait stop >/dev/null
    echo 'PostgreSQL init process complete; ready for start up.'
fi
exec "${as_postgres[@]}" postgres -c 'listen_addresses=*' "$@"
