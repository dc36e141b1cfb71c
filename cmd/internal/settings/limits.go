package settings

import (
	"strconv"

	"github.com/ringfence/ringfence/core/tenant"
)

// Limits are the settings of what tenants may have and do, where the platform grants none of them more.
func Limits() Table {
	d, most := tenant.DefaultLimits, tenant.MaxLimits
	return Table{
		limited("source_rate", d.SourceRate, most.SourceRate, "Events a second, per source"),
		limited("source_burst", d.SourceBurst, most.SourceBurst, "Events at once, per source"),
		limited("ingest_rate", d.IngestRate, most.IngestRate, "Events a second, per tenant"),
		limited("ingest_burst", d.IngestBurst, most.IngestBurst, "Events at once, per tenant"),
		limited("ingest_in_flight", d.InFlight, most.InFlight, "Ingest requests at the same time, per tenant"),
		limited("ingest_backlog", d.Backlog, most.Backlog, "Uplinks that may wait to be decoded, per tenant"),
		limited("fuel_per_minute", int(d.FuelPerMinute), int(most.FuelPerMinute), "Decoder fuel a minute, per tenant"),
		limited("principal_rate", d.PrincipalRate, most.PrincipalRate, "API requests a second, per person or account"),
		limited("principal_burst", d.PrincipalBurst, most.PrincipalBurst, "API requests at once, per person or account"),
		limited("tenant_rate", d.TenantRate, most.TenantRate, "API requests a second, per tenant"),
		limited("devices", d.Devices, most.Devices, "Devices a tenant may have"),
		limited("nodes", d.Nodes, most.Nodes, "Org nodes a tenant may have"),
		limited("members", d.Members, most.Members, "Members a tenant may have, open invitations included"),
		limited("invitations", d.Invitations, most.Invitations, "Open invitations a tenant may have"),
		limited("groups", d.Groups, most.Groups, "Groups a tenant may have"),
		limited("roles", d.Roles, most.Roles, "Roles of its own a tenant may have"),
		limited("memberships", d.Memberships, most.Memberships, "Memberships a tenant may have"),
		limited("decoders", d.Decoders, most.Decoders, "Decoders a tenant may have"),
		limited("versions", d.Versions, most.Versions, "Versions kept of a decoder"),
		limited("sources", d.Sources, most.Sources, "Sources a tenant may have"),
		limited("keys_per_source", d.KeysPerSource, most.KeysPerSource, "Ingestion keys of a source at the same time"),
		limited("tokens_per_person", d.TokensPerPerson, most.TokensPerPerson, "Personal access tokens of a person in a tenant"),
	}
}

// limited is the server's own limit of one kind, at most what may be granted to a tenant.
func limited(key string, def, most int, doc string) Setting {
	return Of(key, strconv.Itoa(def), doc, Number(1, most))
}

// Limits are what Limits' settings say.
func (c Config) Limits() tenant.Limits {
	l := tenant.DefaultLimits
	l.SourceRate, l.SourceBurst, l.IngestRate, l.IngestBurst = c.Num("source_rate"), c.Num("source_burst"), c.Num("ingest_rate"), c.Num("ingest_burst")
	l.InFlight, l.Backlog, l.FuelPerMinute = c.Num("ingest_in_flight"), c.Num("ingest_backlog"), int64(c.Num("fuel_per_minute"))
	l.PrincipalRate, l.PrincipalBurst, l.TenantRate = c.Num("principal_rate"), c.Num("principal_burst"), c.Num("tenant_rate")
	l.Devices, l.Nodes, l.Members, l.Invitations, l.Groups = c.Num("devices"), c.Num("nodes"), c.Num("members"), c.Num("invitations"), c.Num("groups")
	l.Roles, l.Memberships, l.Decoders, l.Versions = c.Num("roles"), c.Num("memberships"), c.Num("decoders"), c.Num("versions")
	l.Sources, l.KeysPerSource, l.TokensPerPerson = c.Num("sources"), c.Num("keys_per_source"), c.Num("tokens_per_person")
	return l
}
