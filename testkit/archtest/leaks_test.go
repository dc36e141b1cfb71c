package archtest_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/ringfence/ringfence/core/credential"
	"github.com/ringfence/ringfence/testkit/archtest"
)

func TestNoUsableSecretStandsInThisRepository(t *testing.T) {
	leaks, err := archtest.Leaks(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range leaks {
		t.Error(l)
	}
}

func mint(t *testing.T, kind credential.Kind) string {
	t.Helper()
	var random [credential.RandomLen]byte
	if _, err := rand.Read(random[:]); err != nil {
		t.Fatal(err)
	}
	return credential.Mint(kind, random).Whole.Reveal()
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	full := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(full, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestPlantedSecretsAreFound(t *testing.T) {
	dir := t.TempDir()
	var want []string
	for _, kind := range credential.Kinds() {
		write(t, dir, "tokens/"+string(kind)+".md", "a line\n\nuse `"+mint(t, kind)+"`.\n")
		want = append(want, "tokens/"+string(kind)+".md:3: a token of kind "+string(kind))
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "deploy/tls.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	signer, _, err := note.GenerateKey(rand.Reader, "audit.example")
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "audit.key", signer+"\n")
	b64 := base64.RawStdEncoding.EncodeToString
	write(t, dir, "dump.sql", "x\n$argon2id$v=19$m=47104,t=1,p=1$"+b64(make([]byte, 16))+"$"+b64(make([]byte, 32))+"\n")
	want = append(want, "deploy/tls.key:1: a private key", "audit.key:1: a private key", "dump.sql:2: a password hash")

	token := mint(t, credential.KindPersonal)
	last := byte('0')
	if token[len(token)-1] == last {
		last = '1'
	}
	write(t, dir, "fine.md", "rf_pat_… is a token; "+token[:len(token)-1]+string(last)+" was one; "+token[:60]+"\n-----BEGIN PRIVATE KEY-----\n…\n")
	write(t, dir, ".git/objects/x", token)
	write(t, dir, "bin/ringfence", token)

	leaks, err := archtest.Leaks(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range leaks {
		got = append(got, l.String())
		if strings.Contains(l.String(), "rf_") {
			t.Error("a leak is repeated in its report")
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("found %q\nwanted %q", got, want)
	}
}

// Whoever scans for our tokens finds each of a thousand in ten megabytes of look-alikes, and nothing else.
func TestATokenIsFoundInTenMegabytesOfNoise(t *testing.T) {
	dir := t.TempDir()
	noise := make([]byte, 5<<20)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	dump := base64.StdEncoding.EncodeToString(noise[:4<<20]) + "\n" + hex.EncodeToString(noise[4<<20:])
	for _, clean := range []string{dump, strings.ReplaceAll(dump, "AB", "rf_pat_")} {
		write(t, dir, "noise", clean)
		if leaks, err := archtest.Leaks(dir); err != nil || len(leaks) > 0 {
			t.Fatalf("%d leaks in noise, error %v", len(leaks), err)
		}
	}
	const planted = 1000
	var text bytes.Buffer
	kinds := credential.Kinds()
	for i := range planted {
		text.WriteString(dump[i*7000:(i+1)*7000] + "\n" + mint(t, kinds[i%len(kinds)]) + "\n")
	}
	write(t, dir, "noise", text.String())
	leaks, err := archtest.Leaks(dir)
	if err != nil || len(leaks) != planted {
		t.Errorf("%d of %d planted tokens found, error %v", len(leaks), planted, err)
	}
}

func TestThePublishedRuleIsTheFormat(t *testing.T) {
	rules, err := os.ReadFile(filepath.Join(root, ".gitleaks.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(rules), "regex = '''"+credential.Pattern+"'''") {
		t.Errorf(".gitleaks.toml does not look for %s", credential.Pattern)
	}
}
