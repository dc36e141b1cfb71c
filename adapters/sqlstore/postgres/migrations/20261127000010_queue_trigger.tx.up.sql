-- oldest program: 20261126000001
-- The queue's table follows what waits alone: most uplinks of a batch never do, and calling the function for each cost a fifth of it.
DROP TRIGGER uplinks_due ON uplinks;
CREATE TRIGGER uplinks_due_came AFTER INSERT ON uplinks FOR EACH ROW WHEN (NEW.state = 'accepted') EXECUTE FUNCTION uplinks_due();
CREATE TRIGGER uplinks_due_changed AFTER UPDATE OF state, not_before ON uplinks FOR EACH ROW WHEN (OLD.state = 'accepted' OR NEW.state = 'accepted') EXECUTE FUNCTION uplinks_due();
CREATE TRIGGER uplinks_due_went AFTER DELETE ON uplinks FOR EACH ROW WHEN (OLD.state = 'accepted') EXECUTE FUNCTION uplinks_due();
