# bash completion for hob; installed as DATADIR/bash-completion/completions/hob

# Never starts the daemon: a Tab must not.
_hob_names() {
	"${1:-hob}" "$2" --no-start 2>/dev/null | awk 'NR > 1 { print $1 }'
}

# Like compgen -W, for words that hold colons (model names do).
_hob_words() {
	local IFS=$'\n'
	COMPREPLY=($(compgen -W "$1" -- "$cur"))
	if declare -F __ltrim_colon_completions >/dev/null; then
		__ltrim_colon_completions "$cur"
	elif [[ $cur == *:* && $COMP_WORDBREAKS == *:* ]]; then
		COMPREPLY=("${COMPREPLY[@]#"${cur%"${cur##*:}"}"}")
	fi
}

_hob() {
	local cur prev words=() cword=0 command i
	if declare -F _get_comp_words_by_ref >/dev/null; then
		_get_comp_words_by_ref -n : cur prev words cword
	else
		cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
		words=("${COMP_WORDS[@]}") cword=$COMP_CWORD
	fi
	command=${words[1]}
	if ((cword == 1)); then
		_hob_words "$(printf '%s\n' chat run ls ps load unload pin unpin why route providers usage cache pull history search note forget backup serve stop engine --help --version)"
		return
	fi
	case $prev in
	-m | --model)
		_hob_words "$(_hob_names "${words[0]}" ls)"
		return ;;
	--conversation | --pin | --unpin | --title | --in)
		_hob_words "$(_hob_names "${words[0]}" history)"
		return ;;
	-c)
		if [[ $command == run || $command == note ]]; then
			_hob_words "$(_hob_names "${words[0]}" history)"
			return
		elif [[ $command == serve ]]; then
			COMPREPLY=($(compgen -f -- "$cur"))
			return
		fi ;;
	--prompt)
		return ;;
	-f | --image | --schema)
		if [[ $command == route || $command == run ]]; then
			COMPREPLY=($(compgen -f -- "$cur"))
			return
		fi ;;
	--config | --socket | --from | --file)
		COMPREPLY=($(compgen -f -- "$cur"))
		return ;;
	--dir | --pack-dir | --kv-dir)
		COMPREPLY=($(compgen -d -- "$cur"))
		return ;;
	--by | -b)
		[[ $command == forget ]] && return
		[[ $command == usage ]] && _hob_words $'model\nday\nprovider\nconversation\nmodel,day'
		return ;;
	-i)
		[[ $command == search ]] && _hob_words "$(_hob_names "${words[0]}" history)"
		return ;;
	--days | -d | --persona | -P | --limit | --before | --delete) return ;;
	--kernels | -k)
		_hob_words $'auto\nscalar\navx2\navx512'
		return ;;
	-s | --system | -t | --temperature | -n | --max-tokens | --seed | --port | -p | --threads)
		[[ $command == serve && $prev == -t ]] || return ;;
	esac
	if [[ $cur == -* ]]; then
		local options=
		case $command in
		run) options="--model --persona --system --file --image --schema --conversation --private --incognito --temperature --max-tokens --seed --raw --json --stats --no-start" ;;
		chat) options="--continue --conversation --model --persona --system --private --incognito --temperature --max-tokens --no-start" ;;
		ls | providers) options="--json --no-start" ;;
		history) options="--limit --pin --unpin --title --json --no-start" ;;
		search) options="--limit --in --json --no-start" ;;
		note) options="--conversation --list --delete --json --no-start" ;;
		forget) options="--before --all --pinned --yes --json --no-start" ;;
		backup) options="--json --no-start" ;;
		route) options="--json --no-start --model --prompt --file --image --tools --private" ;;
		ps | why | pin | unpin) options="--json" ;;
		usage) options="--days --by --json --no-start" ;;
		load) options="--json --no-start --keep-alive" ;;
		unload) options="--json --park" ;;
		cache) options="--json --budget --parked --keep-alive" ;;
		pull) options="--list --from --dir --force --json --quiet" ;;
		serve) options="--config --port --socket --local-only --verbose --test" ;;
		engine) options="--kernels --threads --pack-dir --pack-bytes --kv-dir --kv-ram-bytes --kv-disk-bytes --stdio" ;;
		esac
		_hob_words "$(printf '%s\n' $options --help)"
		return
	fi
	case $command in
	route) ((cword == 2)) && _hob_words explain ;;
	cache) if ((cword == 2)); then _hob_words simulate; else COMPREPLY=($(compgen -f -- "$cur")); fi ;;
	load | unload | pin | unpin | why) _hob_words "$(_hob_names "${words[0]}" ls)" ;;
	run | chat)
		for ((i = 2; i < cword; i++)); do # only the first word is a model
			[[ ${words[i]} == -* ]] || return
		done
		_hob_words "$(_hob_names "${words[0]}" ls)" ;;
	backup) COMPREPLY=($(compgen -f -- "$cur")) ;;
	history | forget) _hob_words "$(_hob_names "${words[0]}" history)" ;;
	pull) _hob_words "$("${words[0]}" pull --list 2>/dev/null | awk '{ print $1 }')" ;;
	esac
}

complete -F _hob hob
