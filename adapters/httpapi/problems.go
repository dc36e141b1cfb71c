package httpapi

import (
	"fmt"
	"net/http"

	"github.com/uptrace/bunrouter"
)

// advice says per code of a problem what it means and what to do. What every code shares stands in the page.
var advice = map[string]string{
	"already_active":         "This version of the decoder is the active one. Nothing needs to be done.",
	"ask_the_platform":       "The person is a member of more than one tenant, or works for the platform: a reset link from one tenant would open the others. Ask a platform administrator for the link.",
	"audit_unavailable":      "Nothing is done that cannot be recorded. Repeat the request after Retry-After; if it lasts, the operator finds the cause in the log.",
	"bad_address":            "A dev_eui has 16 hexadecimal digits, a serial is text without spaces. Correct the address.",
	"bad_addresses":          "A device has at least one address and at most eight. Correct the list.",
	"bad_application":        "Application ids are short texts as the network server writes them. Correct the list.",
	"bad_credential":         "The token or session is missing, expired, revoked or mistyped; which of these is not told. Sign in again, or use another token.",
	"bad_csv":                "The table needs a header with the columns name, dev_eui, serial and decoder_id, each at most once, and rows that fit it.",
	"bad_cursor":             "A cursor is good for the list, tenant, filters and caller that it was given to. Start the list again without it.",
	"bad_email":              "Give an address such as ana@example.com.",
	"bad_expiry":             "Choose an end in the future, or none.",
	"bad_id":                 "An id has a prefix that tells its kind, an underscore and 26 characters. The errors say which kind is wanted where.",
	"bad_idempotency_key":    "Send one Idempotency-Key field of 1 to 128 bytes; a random UUID is a good one.",
	"bad_import":             "Split the table: an import has a bounded number of rows, and at least one.",
	"bad_life":               "Choose a shorter life. The detail says what is allowed.",
	"bad_link":               "Links are good once and for a limited time. Ask for a new one where you got it.",
	"bad_membership":         "Name a member or a group, not both and not neither.",
	"bad_message":            "The network server's message lacks something that an uplink needs. The errors say what; check the integration's settings.",
	"bad_name":               "Choose another name: text without control characters, within the length that the detail names.",
	"bad_overlap":            "Choose a shorter overlap. The detail says what is allowed.",
	"bad_path":               "Write the path as the description has it: ids as they are, nothing encoded.",
	"bad_payload":            "The payload is not encoded as its field asks. Correct it.",
	"bad_permissions":        "Name at least one permission of the catalogue that a token may hold.",
	"bad_query":              "Send each parameter once, by its plain name, with a value of text. The description lists the parameters.",
	"bad_script":             "A script is text within the size that the detail names.",
	"bad_sign_in":            "The address or the password is wrong; which of them is not told. Try again, or ask an administrator for a reset link.",
	"bad_state":              "The detail lists the states. Choose one of them.",
	"bad_time":               "Write times in RFC 3339, such as 2026-11-24T12:00:00Z.",
	"bad_variable":           "Each variable has a name of its own and a value within its bound. Correct the list.",
	"big_group":              "Split the group, or nest groups in it.",
	"built_in_role":          "Create a role of your own with the permissions that you want.",
	"content_encoding":       "Send the body as it is, without compression.",
	"cross_origin":           "The request came from another site than ours. Open our own page, or use a token instead of the browser's session.",
	"cyclic_move":            "Choose a parent that does not stand below the node.",
	"decoder_does_not_load":  "The script fails before it is asked anything. The detail has the engine's message; correct the script.",
	"decoder_in_use":         "Give the devices that name the decoder another one, then delete it.",
	"empty_role":             "Give the role at least one permission, or delete it.",
	"exists":                 "A record of this id is there already. Read it.",
	"gave_up":                "The server stopped waiting and did nothing. Send the request again, with the same Idempotency-Key if it creates something.",
	"group_in_use":           "Revoke the group's memberships and take it out of other groups, then delete it.",
	"group_nesting":          "Groups are nested up to a bound and never in a circle. Choose other groups.",
	"headers_too_large":      "Send fewer or smaller header fields; cookies of other applications on the same host are a usual cause.",
	"idempotency_key_reused": "The key belongs to an earlier, different request. Use a new key for a new request.",
	"immutable":              "Save the change as a new version.",
	"ingestion_key_needed":   "Create an ingestion key for the source and send events with it.",
	"internal":               "A bug of ours. Give the request_id to the operator, who finds the cause in the log.",
	"invalid":                "The errors name each wrong part by a JSON pointer. Correct them; the description at /openapi.json tells the form.",
	"inverted_kind":          "A node stands under one of its own kind or an earlier one: vendor, customer, site, building, floor, zone.",
	"last_owner":             "Make somebody else an owner at the root first.",
	"limited_backlog":        "Too many accepted events wait to be processed. Send again after Retry-After.",
	"limited_in_flight":      "Too many requests of the tenant are under way. Send again after Retry-After.",
	"limited_rate":           "Events come faster than the source or its tenant may send. Send again after Retry-After.",
	"long_list":              "Name fewer applications or devices, or none to allow all below the source's node.",
	"method_not_allowed":     "The Allow field lists the methods of this path.",
	"node_in_use":            "Move or remove what stands on the node or below it, then delete it.",
	"not_for_roles":          "This permission is held by sources' accounts or by the platform alone. Leave it out.",
	"not_found":              "There is no such thing, or none that you may see; which of these is not told. Check the id and the tenant.",
	"not_ready":              "The server is starting, stopping, or has lost its store. Ask again.",
	"not_yourself":           "Ask another administrator to do this to your account.",
	"nothing_before":         "The decoder has no earlier version to go back to. Activate one.",
	"old_checkpoint":         "A newer checkpoint is kept already. Nothing needs to be done.",
	"payload_too_large":      "A device's payload is bounded. Check what the device sends.",
	"permission_denied":      "The problem's permission field names what is missing. Ask an administrator of the tenant for a role that holds it.",
	"person_needed":          "Sign in as a person: a token of one tenant, or a source's key, cannot do this.",
	"person_state":           "The person is in this state already. Nothing needs to be done.",
	"precondition_required":  "Read the resource and repeat the change with its ETag in If-Match.",
	"quota_exceeded":         "The limit and use fields say how many there are and may be. Remove some, or ask the operator for more.",
	"rate_limited":           "Wait as long as Retry-After says. The RateLimit fields of each answer tell what is left.",
	"role_in_use":            "Revoke the memberships that give the role, then delete it.",
	"root_node":              "The root stays where it is as long as its tenant. Choose a node below it.",
	"service_account":        "The account belongs to a source. Change or delete the source.",
	"sign_in_busy":           "Checking passwords takes the server's whole strength at the moment. Try again after Retry-After.",
	"sign_in_first":          "Sign in to your account and open the link again.",
	"sign_in_locked":         "A reset link from an administrator opens the account again.",
	"sign_in_throttled":      "Each failure in a row makes the next try wait longer. Wait as long as Retry-After says.",
	"stale_policy":           "Rights in the tenant changed while the request was decided, twice. Send it again.",
	"stale_revision":         "Somebody changed the resource since you read it. Read it again, and repeat your change with the new ETag.",
	"store_closed":           "The server is stopping. Send the request again.",
	"store_unavailable":      "The store cannot be reached or is full. Send the request again after Retry-After.",
	"engine_closed":          "The server is stopping. Send the request again.",
	"taken":                  "Choose another name or address: this one is in use in the tenant.",
	"tenant_state":           "The tenant is in a state that this change does not apply to. Read it first.",
	"tenant_suspended":       "Ask the platform's operator to resume the tenant.",
	"too_deep":               "Place the node higher in the tree.",
	"too_large":              "Send a smaller body, or split it.",
	"too_many_variables":     "Keep fewer variables on the device.",
	"two_credentials":        "Send an Authorization field or the session's cookie, once, and not both.",
	"unknown_field":          "The plain form knows its own fields alone. The detail lists them.",
	"unknown_format":         "Choose chirpstack, tts or plain.",
	"unknown_kind":           "Choose one of vendor, customer, site, building, floor, zone.",
	"unknown_node":           "Name a living node of this tenant.",
	"unknown_parent":         "Name a living node of this tenant.",
	"unknown_permission":     "The page /docs lists all permissions.",
	"unknown_reference":      "Something that the request refers to is not there. The errors say which part.",
	"unknown_role":           "List the tenant's roles and name one of them.",
	"unreadable":             "Send one JSON document: UTF-8, no NUL, each key once, at most 32 levels deep, nothing behind it.",
	"unsupported_media_type": "Send Content-Type: application/json, or what the description says of this route.",
	"uplink_state":           "Only uplinks in the state that the detail names take part. Read the uplink first.",
	"weak_password":          "Choose a longer password that is not a known one and does not hold your name.",
	"wrong_format":           "Send the events to the path that the detail names, or make a source of this format.",
}

// showProblem is the page of a code.
func showProblem(w http.ResponseWriter, r bunrouter.Request) error {
	code := r.Param("code")
	text, ok := advice[code]
	if !ok {
		return notFound()
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, err := fmt.Fprintf(w, "%s\n\n%s\n\nThe problem's detail says what was wrong with the request, its errors which parts of it are meant, and its request_id names it\nin the server's log. 4xx: mend the request. 429 and 503: wait as long as Retry-After says. 500: a bug of ours.\n", code, text)
	return err
}
