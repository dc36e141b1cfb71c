package httpapi

import (
	"strings"
	"testing"
)

func TestASecretVariableIsNeitherLostNorEmpty(t *testing.T) {
	h := newHouse(t)
	a := h.as(h.owner[0])
	with := func(variables string) string {
		return `{"name":"x","addresses":[{"kind":"serial","value":"1"}],"variables":[` + variables + `]}`
	}
	for variables, pointer := range map[string]string{
		`{"name":"k","secret":true}`:                                    "/variables/0/value",
		`{"name":"k","secret":true,"value":""}`:                         "/variables/0/value",
		`{"name":"a","value":"1"},{"name":"k"}`:                         "/variables/1/value",
		`{"name":"k","value":"1","set":false}`:                          "/variables/0/set",
		`{"name":"k","value":"1"},{"name":"k","value":"2"}`:             "/variables/1/name",
		`{"name":"a","value":""},{"name":"k","secret":true,"set":true}`: "/variables/1/value",
	} {
		a.call("POST", h.at(0, "/devices"), with(variables)).names(422, "bad_variable", pointer, "")
	}
	at := h.at(0, "/devices/"+a.call("POST", h.at(0, "/devices"), with(`{"name":"k","secret":true,"value":"s"},{"name":"o","value":""}`)).ok(201).str("id"))
	for variables, pointer := range map[string]string{
		`{"name":"k","secret":false}`:                           "/variables/0/value",
		`{"name":"k"}`:                                          "/variables/0/value",
		`{"name":"o","secret":true}`:                            "/variables/0/value",
		`{"name":"k","secret":true},{"name":"n","secret":true}`: "/variables/1/value",
		`{"name":"k","secret":true,"set":false}`:                "/variables/0/set",
		`{"name":"k","secret":true},{"name":"n","set":true}`:    "/variables/1/value",
	} {
		a.call("PATCH", at, `{"variables":[`+variables+`]}`, one1).names(422, "bad_variable", pointer, "")
	}
	read := a.call("GET", at, "").ok(200).Body.String()
	_, variables, _ := strings.Cut(read, `"variables":`)
	variables = variables[:strings.Index(variables, "]")+1]
	if a.call("PATCH", at, `{"variables":`+variables+`}`, one1).ok(200).Header().Get("Etag") != `"1"` || !strings.Contains(variables, `"set":true`) {
		t.Errorf("what was read is a change when it is sent back: %s", variables)
	}
}
