#compdef aloe
# Completion of `aloe` in zsh. In ~/.zshrc, after compinit: eval "$(aloe completion zsh)"
_aloe() {
  local key='' list=''
  if (( CURRENT == 2 )); then
    compadd -- @COMMANDS@ --version --help
    return
  fi
  if [[ "$PREFIX" == --*=* ]]; then
    key="${PREFIX%%=*}"
    compset -P 1 '*='
  elif [[ "$PREFIX" == -* ]]; then
    key=-
  elif [[ "${words[CURRENT-1]}" == --* ]]; then
    key="${words[CURRENT-1]}"
  fi
  [[ "$key" == --stages ]] && compset -P '*,'
  case "${words[2]} $key" in
    @CASES@
  esac
  if [[ -n "$list" ]]; then
    compadd -S '' -- ${(M)${=list}:#*=}
    compadd -- ${${=list}:#*=}
  fi
  [[ -n "$list" && "$key" != --config ]] || _files
}
compdef _aloe aloe
