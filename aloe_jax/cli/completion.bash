# Completion of `aloe` in bash. In ~/.bashrc: eval "$(aloe completion bash)"
_aloe() {
  local line="${COMP_LINE:0:COMP_POINT}" word value before='' key='' list='' broken='' one
  local -a words
  word="${line##*[[:space:]]}"
  value="$word"
  read -ra words <<< "${line%"$word"}"
  COMPREPLY=()
  if (( ${#words[@]} < 2 )); then
    COMPREPLY=($(compgen -W '@COMMANDS@ --version --help' -- "$word"))
    return
  fi
  if [[ "$word" == --*=* ]]; then
    key="${word%%=*}"
    value="${word#*=}"
    before="$key="
  elif [[ "$word" == -* ]]; then
    key=-
  elif [[ "${words[${#words[@]}-1]}" == --* ]]; then
    key="${words[${#words[@]}-1]}"
  fi
  if [[ "$key" == --stages && "$value" == *,* ]]; then
    before="$before${value%,*},"
    value="${value##*,}"
  fi
  case "${words[1]} $key" in
    @CASES@
  esac
  # Readline replaces only what stands behind the last of its word breaks.
  [[ "$COMP_WORDBREAKS" == *=* ]] && broken="${word%"${word##*[=:]}"}"
  while read -r one; do
    COMPREPLY+=("${one#"$broken"}")
  done < <(
    [[ -z "$list" ]] || compgen -P "$before" -W "$list" -- "$value"
    [[ -n "$list" && "$key" != --config ]] || compgen -P "$before" -f -- "$value"
  )
  if type compopt &> /dev/null; then
    [[ "${COMPREPLY[0]:-}" == *= || "$key" == --stages ]] && compopt -o nospace
    [[ -z "$list" ]] && compopt -o filenames
  fi
  return 0
}
complete -F _aloe aloe
