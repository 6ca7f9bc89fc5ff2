#!/usr/bin/env bash
#
# tls.sh DIR: throw-away certificates for the stub, made without a network.
#
#	ca.pem					the authority that tests trust
#	server.pem, .key		127.0.0.1, ::1 and localhost, good for a day or so
#	expired.pem, .key		the same, lapsed long ago
#	wrong_host.pem, .key	for another host
#	other_ca.pem			an authority that nobody trusts
#	other.pem, .key			127.0.0.1, ::1 and localhost, signed by that one

set -euo pipefail

OURS=DNS:localhost,IP:127.0.0.1,IP:::1

quietly()
{
	"$@" >"$DIR/openssl.log" 2>&1 </dev/null || {
		cat "$DIR/openssl.log" >&2
		exit 1
	}
}

# An authority $1.pem with its key, called $2
make_ca()
{
	cat >"$DIR/ca.cnf" <<-CONFIG
		[req]
		distinguished_name = name
		x509_extensions = ca
		prompt = no
		[name]
		CN = $2
		[ca]
		basicConstraints = critical, CA:TRUE
		keyUsage = critical, keyCertSign, cRLSign
		subjectKeyIdentifier = hash
	CONFIG
	quietly openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
		-config "$DIR/ca.cnf" -days 3 -keyout "$DIR/$1.key" -out "$DIR/$1.pem"
}

# A certificate $1.pem with its key, signed by authority $2, for the names $3,
# good from $4 to $5 (YYMMDDHHMMSSZ)
make_certificate()
{
	cat >"$DIR/ca.cnf" <<-CONFIG
		[ca]
		default_ca = here
		[here]
		database = $DIR/index.txt
		new_certs_dir = $DIR
		serial = $DIR/serial
		default_md = sha256
		policy = any
		x509_extensions = server
		unique_subject = no
		[any]
		commonName = supplied
		[server]
		basicConstraints = critical, CA:FALSE
		keyUsage = critical, digitalSignature
		extendedKeyUsage = serverAuth
		subjectAltName = $3
		authorityKeyIdentifier = keyid
	CONFIG
	quietly openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
		-subj "/CN=stub $1" -keyout "$DIR/$1.key" -out "$DIR/request.pem"
	quietly openssl ca -batch -notext -config "$DIR/ca.cnf" -cert "$DIR/$2.pem" \
		-keyfile "$DIR/$2.key" -startdate "$4" -enddate "$5" \
		-in "$DIR/request.pem" -out "$DIR/$1.pem"
}

utc() { date -u -d "$1" +%y%m%d%H%M%SZ; }

main()
{
	local yesterday in_a_while

	[ $# -eq 1 ] || { echo "usage: ${0##*/} DIR" >&2; exit 2; }
	mkdir -p "$1"
	DIR=$(cd "$1" && pwd)
	umask 077
	: >"$DIR/index.txt"
	echo 1000 >"$DIR/serial"
	yesterday=$(utc "-1 day")
	in_a_while=$(utc "+2 days")
	make_ca ca "stub's authority"
	make_ca other_ca "another authority"
	make_certificate server ca "$OURS" "$yesterday" "$in_a_while"
	make_certificate expired ca "$OURS" "$(utc "-30 days")" "$(utc "-20 days")"
	make_certificate wrong_host ca DNS:slack.invalid "$yesterday" "$in_a_while"
	make_certificate other other_ca "$OURS" "$yesterday" "$in_a_while"
	chmod 644 "$DIR"/*.pem
	rm -f "$DIR"/ca.cnf "$DIR"/request.pem "$DIR"/openssl.log "$DIR"/index.txt* \
		"$DIR"/serial* "$DIR"/1[0-9A-F][0-9A-F][0-9A-F].pem "$DIR"/ca.key "$DIR"/other_ca.key
}

main "$@"
