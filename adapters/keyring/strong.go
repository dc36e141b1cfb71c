package keyring

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// Strong refuses a key that is short, known, or obviously not random.
func Strong(key []byte) error {
	if len(key) < keySize {
		return errors.New("a key has at least 32 random bytes; make one with: head -c 32 /dev/urandom | base64")
	}
	distinct := map[byte]bool{}
	for _, b := range key {
		distinct[b] = true
	}
	if len(distinct) < 12 || period(key) <= len(key)/2 {
		return errors.New("this key repeats itself; make one with: head -c 32 /dev/urandom | base64")
	}
	lower := strings.ToLower(string(key))
	for _, word := range known {
		if strings.Contains(lower, word) {
			return errors.New("this key contains a well-known word; make one with: head -c 32 /dev/urandom | base64")
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

// known are words that stand in shipped defaults, examples and tutorials. Five letters or more: a random key of 32 bytes
// contains one of them less than once in 10^8 keys.
var known = strings.Fields(`changeme changeit secret password passw0rd default example insecure supersecret topsecret letmein
qwerty admin123 administrator thingsboard chirpstack mosquitto ringfence localhost development testing mysecret jwtsecret
jwt_secret signing privatekey private_key encryption 0123456789abcdef 123456789 abcdefgh deadbeef cafebabe notasecret
replace-me replace_me replaceme your-secret your_secret yoursecret placeholder magistrala tbmqtt kafka rabbitmq guest12345
postgres supabase keycloak grafana hunter2 correcthorse iloveyou dummykey samplekey testkey demokey`)

// publicNote encodes the verifier key of an Ed25519 seed.
func publicNote(name string, seed []byte) (string, error) {
	public, ok := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	if !ok {
		return "", errors.New("keys: audit.key is not an Ed25519 key")
	}
	return note.NewEd25519VerifierKey(name, public)
}
