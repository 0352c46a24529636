#!/bin/sh
# Prints the licences of everything that is linked into a program: Go's, and those
# of its modules. Arguments are those of "go list". A module without one fails.
set -eu

section() { printf '\n=== %s\n\n' "$1"; }

echo 'This program contains the following software.'
section 'Go'
cat "$(go env GOROOT)/LICENSE"
go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' "$@" | sort -u |
  while read -r module version dir; do
    section "$module $version"
    found=
    for file in "$dir"/LICEN[CS]E* "$dir"/COPYING* "$dir"/NOTICE* "$dir"/PATENTS*; do
      if [ -f "$file" ]; then
        cat "$file"
        found=yes
      fi
    done
    [ -n "$found" ] || { echo "$module has no licence" >&2; exit 1; }
  done
