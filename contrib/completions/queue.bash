# Completion of queue, qsh, queue-sh and queued for bash 4.4 and later. What may stand where is asked of the programs,
# so this file does not know it. The package bash-completion is not needed; with it, the command behind `--` or
# behind a host is completed as it is by itself.

# _queue_words: the words up to the cursor, as they were typed, into `words`; where each begins in COMP_WORDS into
# `starts`. bash divides them at each of COMP_WORDBREAKS, too (`--host=h1`, `alice@h1`): what the user did not divide
# is put together again, and `lead` is what stands in front of the piece that bash will replace.
_queue_words()
{
	local rest=${COMP_LINE:0:COMP_POINT} word gap i
	words=() starts=() lead=
	for ((i = 0; i <= COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]-}
		gap=${rest%%[![:space:]]*}
		rest=${rest:${#gap}}
		# What is behind the cursor does not count.
		((i < COMP_CWORD)) || word=${word:0:${#rest}}
		if [[ $rest != "$word"* ]]; then
			# The line is not the one that was divided (an alias, a wrapper).
			words=("${COMP_WORDS[@]:0:COMP_CWORD+1}") starts=("${!words[@]}") lead=
			return
		fi
		rest=${rest:${#word}}
		if ((i == 0)) || [[ -n $gap || (-z $word && -z $rest && ${COMP_LINE:COMP_POINT-1:1} == [[:space:]]) ]]; then
			words+=("$word") starts+=("$i") lead=
		else
			lead=${words[-1]}
			words[-1]+=$word
			# A divider itself stays.
			[[ $word == [\'\"]* || -n ${word//["$COMP_WORDBREAKS"]/} ]] || lead=${words[-1]}
		fi
	done
	# This one is replaced with what is behind it.
	lead=${lead%@}
}

# _queue_command N: the words from COMP_WORDS[N] on are a command line of their own.
_queue_command()
{
	if declare -F _comp_command_offset >/dev/null; then
		_comp_command_offset "$1"
		return
	elif declare -F _command_offset >/dev/null; then
		_command_offset "$1"
		return
	fi
	local cur=${COMP_WORDS[COMP_CWORD]-}
	if (($1 == COMP_CWORD)); then
		[[ $cur == */* ]] || mapfile -t COMPREPLY < <(compgen -c -- "$cur")
		compopt -o default 2>/dev/null
		return
	fi
	local i line=$COMP_LINE spec
	for ((i = 0; i < $1; i++)); do
		line=${line#*"${COMP_WORDS[i]}"}
	done
	line=${line#"${line%%[![:space:]]*}"}
	local COMP_POINT=$((COMP_POINT - ${#COMP_LINE} + ${#line})) COMP_LINE=$line
	local COMP_CWORD=$((COMP_CWORD - $1))
	local -a COMP_WORDS=("${COMP_WORDS[@]:$1}")
	spec=$(complete -p -- "${COMP_WORDS[0]##*/}" 2>/dev/null)
	if [[ $spec =~ \ -F\ ([^ ]+)\  ]] && declare -F "${BASH_REMATCH[1]}" >/dev/null; then
		[[ $spec == *" -o nospace "* ]] && compopt -o nospace 2>/dev/null
		"${BASH_REMATCH[1]}" "${COMP_WORDS[0]}" "$cur" "${COMP_WORDS[COMP_CWORD - 1]}" 2>/dev/null
	else
		compopt -o default 2>/dev/null
	fi
}

_queue()
{
	local -a words starts ask
	local lead cur kind value offset='' keep=''
	COMPREPLY=()
	_queue_words
	cur=${words[-1]}
	# The file of a redirection is the shell's.
	if [[ $cur =~ ^[0-9\&]*[\<\>] || ${words[-2]-} =~ ^[0-9\&]*[\<\>]+[\|\&]?$ ]]; then
		compopt -o default 2>/dev/null
		return
	fi
	case ${words[0]##*/} in
	queued) ask=(queued complete) ;;
	*) ask=(queue admin complete) ;;
	esac
	while IFS=$'\t' read -r kind value _; do
		case $kind in
		k) keep=$value ;;
		w) COMPREPLY+=("$value") ;;
		s) compopt -o nospace 2>/dev/null ;;
		f) compopt -o default 2>/dev/null ;;
		u) [[ $keep != "$lead" ]] || mapfile -t COMPREPLY < <(compgen -u -- "${cur:${#lead}}") ;;
		c) offset=${starts[value]-} ;;
		esac
	done < <(command "${ask[@]}" --shell bash --lead "$lead" -- "${words[@]}" </dev/null 2>/dev/null)
	[[ -z $offset ]] || _queue_command "$offset"
}

complete -F _queue queue qsh queue-sh queued
