// Northquay DC-4: one reed contact and a tamper switch.
const EVENTS = ["heartbeat", "opened", "closed", "tamper", "held open"];

const decodeUplink = ({ bytes, fPort }) => {
  switch (fPort) {
    case 10: {
      if (bytes.length !== 8) return { errors: [`a status has 8 bytes, not ${bytes.length}`] };
      const [flags, event, ...rest] = bytes;
      const count = rest.slice(0, 3).reduce((sum, byte) => sum * 256 + byte, 0);
      const data = {
        open: (flags & 0x01) !== 0,
        tamper: (flags & 0x02) !== 0,
        event: EVENTS[event] ?? `event ${event}`,
        openings: count,
        openFor: rest[3] * 256 + rest[4],
        battery: 2 + (flags >> 4) / 10,
      };
      return { data, warnings: data.tamper ? ["the cover was taken off"] : [] };
    }
    case 11:
      return { data: { version: bytes.join(".") } };
    default:
      return { errors: [`port ${fPort} is not used`] };
  }
};
