package keyring

import (
	"bytes"
	"crypto/ed25519"
	_ "embed"
	"errors"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

const remedy = "; make a key with: head -c 32 /dev/urandom | base64"

// Strong refuses a key that is short, known, or obviously not random. It cannot tell that a key is random.
func Strong(key []byte) error {
	if len(key) < keySize {
		return errors.New("a key has at least 32 random bytes" + remedy)
	}
	values, steps, printable := map[byte]bool{}, map[byte]bool{}, true
	for i, b := range key {
		values[b] = true
		printable = printable && b >= ' ' && b <= '~'
		if i > 0 {
			steps[b-key[i-1]] = true
		}
	}
	switch {
	case len(values) < 12 || len(steps) < 12 || period(key) <= len(key)/2: // 00 01 02 … takes one step again and again
		return errors.New("this key repeats itself" + remedy)
	case printable: // of random keys one in 10^13 is
		return errors.New("this key is text and not random" + remedy)
	}
	return holdsKnown(string(key), 5)
}

// wellKnown refuses a key's text that holds a word, as if base64 were letters.
func wellKnown(text string) error { return holdsKnown(text, 8) }

// holdsKnown refuses a text with a known value of a length in it, in capitals or not. With five letters one of 10^7 random
// keys has one, with eight letters one of 10^8 random texts in base64.
func holdsKnown(text string, length int) error {
	text = strings.ToLower(text)
	for _, word := range strings.Fields(known) {
		if len(word) >= length && strings.Contains(text, word) {
			return errors.New("this key contains a well-known word" + remedy)
		}
	}
	return nil
}

// period is the length after which a text repeats.
func period(key []byte) int {
	for n := 1; n < len(key); n++ {
		if bytes.Equal(key[n:], key[:len(key)-n]) {
			return n
		}
	}
	return len(key)
}

// known are values that stand in shipped defaults, examples and tutorials, in small letters, of five letters or more.
//
//go:embed known.txt
var known string

// publicNote encodes the verifier key of an Ed25519 seed.
func publicNote(name string, seed []byte) (string, error) {
	public, ok := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	if !ok {
		return "", errors.New("this is not an Ed25519 key")
	}
	return note.NewEd25519VerifierKey(name, public)
}
