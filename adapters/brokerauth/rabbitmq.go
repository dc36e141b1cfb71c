package brokerauth

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// rabbitMQ is its plugin rabbitmq_auth_backend_http: forms, answered allow or deny. The tags of a user, which are answered with
// the first question, come with all the others: the publisher's mark is one.
func rabbitMQ() shape {
	return shape{
		questions: []string{"user", "vhost", "resource", "topic"}, types: []string{formType}, limit: maxQuestion,
		decide: func(e *Endpoint, ctx context.Context, q question) verdict {
			f, ok := readForm(q.body)
			if !ok {
				return verdict{}
			}
			switch user, client, mark := f["username"], f["client_id"], f["tags"]; q.name {
			case "user": // without a client id it is no MQTT client's
				if f["vhost"] != vhost {
					return verdict{}
				}
				return e.connect(ctx, q, user, f["password"], client, "")
			case "vhost":
				return e.stands(ctx, q, user, mark, client, f["vhost"] == vhost)
			case "resource":
				return e.stands(ctx, q, user, mark, client, f["vhost"] == vhost && ownResource(f, client))
			default:
				return e.routed(ctx, q, f, mark)
			}
		},
		answer: func(w http.ResponseWriter, question string, v verdict) {
			w.Header().Set("Content-Type", "text/plain; charset=utf-8")
			text := "deny"
			if v.yes {
				text = "allow"
			}
			if v.yes && question == "user" {
				text += " " + v.mark
			}
			_, _ = io.WriteString(w, text)
		},
	}
}

// What its MQTT plugin uses, by default.
const (
	vhost    = "/"
	exchange = "amq.topic"
)

// stands asks whether a client is still one, and whether what it asks for is right.
func (e *Endpoint) stands(ctx context.Context, q question, user, mark, client string, right bool) verdict {
	_, err := e.known(ctx, q, user, mark, client)
	v := e.verdict(ctx, q, err)
	v.yes = v.yes && right
	return v
}

// ownResource lets a client use the exchange that topics are published to, and the queues that its subscriptions are. What it
// may say and hear there is the question about the topic.
func ownResource(f map[string]string, client string) bool {
	switch f["resource"] {
	case "exchange":
		return f["name"] == exchange && (f["permission"] == "write" || f["permission"] == "read")
	case "queue":
		rest, ok := strings.CutPrefix(f["name"], "mqtt-subscription-"+client)
		return ok && client != "" && (rest == "qos0" || rest == "qos1")
	}
	return false
}

// routed is the question about a topic, which arrives as a routing key: RabbitMQ writes a dot for each slash and an asterisk for
// each plus sign, and leaves dots and asterisks as they are. So the dots are read as what they are to RabbitMQ, which routes by
// this key alone: a/b and a.b are one topic there, whichever was written. Since no id has a dot, what reads as a source's own is
// nobody else's, in any spelling. A key that holds what the translation would have changed was not made by it, and is refused.
func (e *Endpoint) routed(ctx context.Context, q question, f map[string]string, mark string) verdict {
	key, client := f["routing_key"], f["variable_map.client_id"]
	if f["vhost"] != vhost || f["resource"] != "topic" || f["name"] != exchange || f["variable_map.username"] != f["username"] || strings.ContainsAny(key, "/+") {
		return verdict{}
	}
	topic := strings.NewReplacer(".", "/", "*", "+").Replace(key)
	switch f["permission"] {
	case "write":
		return e.publish(ctx, q, f["username"], mark, client, topic, false) // it does not say what is retained
	case "read":
		return e.subscribe(ctx, q, f["username"], mark, client, topic)
	}
	return verdict{}
}

// readForm takes a form in which everything stands once, as text.
func readForm(body []byte) (map[string]string, bool) {
	values, err := url.ParseQuery(string(body))
	if err != nil || len(values) > 64 {
		return nil, false
	}
	out := make(map[string]string, len(values))
	for k, v := range values {
		if len(v) != 1 || !utf8.ValidString(v[0]) || strings.ContainsRune(v[0], 0) {
			return nil, false
		}
		out[k] = v[0]
	}
	return out, true
}
