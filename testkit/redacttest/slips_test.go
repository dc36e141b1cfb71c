package redacttest_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/ringfence/ringfence/testkit/redacttest"
)

func TestASecretIsFoundHoweverItIsWritten(t *testing.T) {
	const secret = `p4ss"w/ö&rd`
	quoted, err := json.Marshal("postgres://u:" + secret + "@host/db")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"raw": secret, "json": string(quoted), "url": "postgres://u:" + url.QueryEscape(secret) + "@host", "hex": hex.EncodeToString([]byte(secret)), "base64": base64.StdEncoding.EncodeToString([]byte("u:" + secret)),
		"base64url": base64.URLEncoding.EncodeToString([]byte(secret)),
	} {
		found := redacttest.Slips(map[string]string{"the password": secret}, map[string][]byte{"the log": []byte("before " + text + " behind")})
		if len(found) != 1 || !strings.Contains(found[0], "the log: the password") {
			t.Errorf("%s: %q", name, found)
		}
	}
	if found := redacttest.Slips(map[string]string{"the password": secret}, map[string][]byte{"the log": []byte("p4ss and w/ö are no secret")}); len(found) != 0 {
		t.Errorf("%q", found)
	}
	if found := redacttest.Slips(map[string]string{"the password": "short"}, nil); len(found) != 1 {
		t.Error("what nobody can look for was taken for looked for")
	}
}
