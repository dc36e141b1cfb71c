package access

import (
	"encoding/hex"
	"strings"
)

// ParseTrace is the trace id of a W3C traceparent (version 00); "" if it is none. Whatever a caller says of sampling is not heeded.
func ParseTrace(s string) string {
	if len(s) != 55 || s[:3] != "00-" || s[35] != '-' || s[52] != '-' || strings.ToLower(s) != s {
		return ""
	}
	id, parent := s[3:35], s[36:52]
	if _, err := hex.DecodeString(id + parent + s[53:]); err != nil || strings.Trim(id, "0") == "" || strings.Trim(parent, "0") == "" {
		return ""
	}
	return id
}

// Traceparent is a W3C traceparent of a trace, whose parent is a step with an id of ours.
func Traceparent(trace string, step [16]byte) string {
	return "00-" + trace + "-" + hex.EncodeToString(step[8:]) + "-00"
}
