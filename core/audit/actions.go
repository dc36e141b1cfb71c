package audit

// Action names what happened: OWASP's logging vocabulary where it has a word, else noun_verb in its manner.
type Action string

// The actions, a closed list: a feature adds its own.
const (
	LoginSuccess  Action = "authn_login_success"
	LoginFail     Action = "authn_login_fail"
	LoginLock     Action = "authn_login_lock"
	Logout        Action = "authn_logout"
	PasswordSet   Action = "authn_password_change"
	TokenCreated  Action = "authn_token_created"
	TokenRevoked  Action = "authn_token_revoked"
	TokenReuse    Action = "authn_token_reuse"
	TokenRefresh  Action = "authn_token_refreshed"
	SessionEnded  Action = "session_ended"
	AuthzFail     Action = "authz_fail"
	SensitiveRead Action = "sensitive_read"
	AuditExported Action = "audit_exported"

	SetupDone Action = "platform_setup"

	PersonCreated  Action = "user_created"
	PersonDisabled Action = "user_disabled"
	PersonEnabled  Action = "user_enabled"
	ResetStarted   Action = "user_reset_started"

	TenantCreated   Action = "tenant_created"
	TenantUpdated   Action = "tenant_updated"
	TenantSuspended Action = "tenant_suspended"
	TenantResumed   Action = "tenant_resumed"
	TenantDeleted   Action = "tenant_deleted"
	LimitsChanged   Action = "tenant_limits_changed"

	MappingCreated Action = "mapping_created"
	MappingDeleted Action = "mapping_deleted"

	DeadLetterReplayed Action = "dead_letter_replayed"

	NodeCreated Action = "node_created"
	NodeUpdated Action = "node_updated"
	NodeMoved   Action = "node_moved"
	NodeBarrier Action = "node_barrier_changed"
	NodeDeleted Action = "node_deleted"

	MemberInvited     Action = "member_invited"
	InvitationRevoked Action = "invitation_revoked"
	MemberAdded       Action = "member_added"
	MemberRemoved     Action = "member_removed"
	MembershipGranted Action = "authz_membership_granted"
	MembershipRevoked Action = "authz_membership_revoked"
	GroupCreated      Action = "group_created"
	GroupUpdated      Action = "group_updated"
	GroupDeleted      Action = "group_deleted"
	RoleCreated       Action = "role_created"
	RoleUpdated       Action = "role_updated"
	RoleDeleted       Action = "role_deleted"

	DeviceCreated  Action = "device_created"
	DeviceUpdated  Action = "device_updated"
	DeviceAssigned Action = "device_assigned"
	DeviceDeleted  Action = "device_deleted"
	DevicesImport  Action = "devices_imported"

	DecoderCreated   Action = "decoder_created"
	DecoderUpdated   Action = "decoder_updated"
	DecoderDeleted   Action = "decoder_deleted"
	DecoderVersioned Action = "decoder_version_created"
	DecoderActivated Action = "decoder_activated"
	DecoderRolled    Action = "decoder_rolled_back"

	SourceCreated Action = "source_created"
	SourceUpdated Action = "source_updated"
	SourceDeleted Action = "source_deleted"
	KeyCreated    Action = "source_key_created"
	KeyRotated    Action = "source_key_rotated"
	KeyRevoked    Action = "source_key_revoked"

	UplinkReplayed     Action = "uplink_replayed"
	QuarantineFolded   Action = "quarantine_counted"
	QuarantineReleased Action = "quarantine_released"
	QuarantineDropped  Action = "quarantine_discarded"
)

// Actions are all of them.
func Actions() []Action {
	return []Action{
		LoginSuccess, LoginFail, LoginLock, Logout, PasswordSet, TokenCreated, TokenRevoked, TokenReuse, TokenRefresh, SessionEnded, AuthzFail, SensitiveRead, AuditExported,
		SetupDone,
		PersonCreated, PersonDisabled, PersonEnabled, ResetStarted,
		TenantCreated, TenantUpdated, TenantSuspended, TenantResumed, TenantDeleted, LimitsChanged,
		MappingCreated, MappingDeleted, DeadLetterReplayed,
		NodeCreated, NodeUpdated, NodeMoved, NodeBarrier, NodeDeleted,
		MemberInvited, InvitationRevoked, MemberAdded, MemberRemoved, MembershipGranted, MembershipRevoked, GroupCreated, GroupUpdated, GroupDeleted, RoleCreated, RoleUpdated, RoleDeleted,
		DeviceCreated, DeviceUpdated, DeviceAssigned, DeviceDeleted, DevicesImport,
		DecoderCreated, DecoderUpdated, DecoderDeleted, DecoderVersioned, DecoderActivated, DecoderRolled,
		SourceCreated, SourceUpdated, SourceDeleted, KeyCreated, KeyRotated, KeyRevoked,
		UplinkReplayed, QuarantineFolded, QuarantineReleased, QuarantineDropped,
	}
}
