-- oldest program: 20261126000001
-- Nobody looks for a reading by its id alone: an older program finds a device's latest value so, and until it is replaced looks through
-- the tenant's readings of one day. A backup that is under way has to end first.
SET LOCAL lock_timeout = '5s';
DROP INDEX readings_id;
