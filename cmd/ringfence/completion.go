package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

// Run prints a script that completes every command and flag: those of kong's model, so that none is forgotten. Where none of
// them fits, the shell completes file names.
func (c completionCmd) Run(parsed *kong.Context, env environment) error {
	_, err := fmt.Fprint(env.stdout, map[string]func([]place) string{"bash": bash, "zsh": zsh, "fish": fish}[c.Shell](places(parsed.Model.Node, "ringfence")))
	return err
}

// place is a command, or the program itself, with what may stand behind it.
type place struct {
	at    string // as it is entered: ringfence audit key
	words []word
}

type word struct {
	text, help string
	value      bool // a flag that takes one
}

func places(n *kong.Node, at string) []place {
	here, below := place{at: at}, []place(nil)
	for _, child := range n.Children {
		here.words = append(here.words, word{text: child.Name, help: child.Help})
		below = append(below, places(child, at+" "+child.Name)...)
	}
	for _, p := range n.Positional {
		if p.Enum != "" {
			for _, v := range p.EnumSlice() {
				here.words = append(here.words, word{text: v, help: p.Help})
			}
		}
	}
	for _, group := range n.AllFlags(true) {
		for _, f := range group {
			here.words = append(here.words, word{"--" + f.Name, f.Help, !f.IsBool()})
			if f.Short != 0 {
				here.words = append(here.words, word{"-" + string(f.Short), f.Help, !f.IsBool()})
			}
		}
	}
	return append([]place{here}, below...)
}

// walk is the patterns of a case that goes from a command to one below it.
func walk(all []place) string {
	var ways []string
	for _, p := range all[1:] {
		ways = append(ways, "'"+p.at+"'")
	}
	return strings.Join(ways, "|")
}

// taking is the patterns of a case for flags that take a value, which may be a file.
func taking(all []place) string {
	var flags []string
	for _, p := range all {
		for _, w := range p.words {
			if w.value && !slices.Contains(flags, w.text) {
				flags = append(flags, w.text)
			}
		}
	}
	return strings.Join(flags, "|")
}

// choices are the branches of a case that says what may come next.
func choices(all []place) string {
	var b strings.Builder
	for _, p := range all {
		fmt.Fprintf(&b, "\t'%s') next=(", p.at)
		for i, w := range p.words {
			b.WriteString(strings.Repeat(" ", min(i, 1)) + w.text)
		}
		b.WriteString(") ;;\n")
	}
	return b.String()
}

// step goes on by one word of a line: the same in bash and zsh. The value of a flag is no command.
func step(all []place) string {
	return `		if [ -n "$value" ]; then value=; continue; fi
		case "$word" in
		` + taking(all) + `) value=1; continue ;;
		esac
		case "$at $word" in
		` + walk(all) + `) at="$at $word" ;;
		esac
`
}

func bash(all []place) string {
	return `# bash completion of ringfence; once: source <(ringfence completion bash)
_ringfence() {
	local at=ringfence word value= next=()
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
` + step(all) + `	done
	case "$at" in
` + choices(all) + `	esac
	case "${COMP_WORDS[COMP_CWORD-1]}" in
	` + taking(all) + `) next=() ;;
	esac
	COMPREPLY=($(compgen -W "${next[*]}" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _ringfence ringfence
`
}

func zsh(all []place) string {
	return `#compdef ringfence
# zsh completion of ringfence; once: source <(ringfence completion zsh), for good: a file _ringfence in a folder of $fpath
_ringfence() {
	local at=ringfence word value=
	local -a next
	for word in "${(@)words[2,CURRENT-1]}"; do
` + step(all) + `	done
	case "$at" in
` + choices(all) + `	esac
	case "$words[CURRENT-1]" in
	` + taking(all) + `) next=() ;;
	esac
	compadd -a next || _files
}
if [[ $funcstack[1] == _ringfence ]]; then _ringfence "$@"; else compdef _ringfence ringfence; fi
`
}

func fish(all []place) string {
	var b strings.Builder
	b.WriteString(`# fish completion of ringfence; once: ringfence completion fish | source
function __ringfence_at
	set -l at ringfence
	set -l value
	for word in (commandline -opc)[2..]
		if test -n "$value"
			set value
			continue
		end
		switch "$word"
		case ` + strings.ReplaceAll(taking(all), "|", " ") + `
			set value 1
			continue
		end
		switch "$at $word"
		case ` + strings.ReplaceAll(walk(all), "|", " ") + `
			set at "$at $word"
		end
	end
	test "$at" = "$argv"
end
`)
	quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`)
	for _, p := range all {
		for _, w := range p.words {
			kind := "-a " + w.text
			if long, ok := strings.CutPrefix(w.text, "--"); ok {
				kind = "-l " + long
			} else if short, ok := strings.CutPrefix(w.text, "-"); ok {
				kind = "-s " + short
			}
			if w.value {
				kind += " -r"
			}
			fmt.Fprintf(&b, "complete -c ringfence -n '__ringfence_at %s' %s -d '%s'\n", p.at, kind, quote.Replace(w.help))
		}
	}
	return b.String()
}
