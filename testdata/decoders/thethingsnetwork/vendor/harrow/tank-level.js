// Harrow TL-9: distance to the surface by ultrasound, with up to eight earlier values in one frame.
class Frame {
  constructor(bytes) {
    this.buf = Buffer.from(bytes);
    this.at = 0;
  }
  get left() {
    return this.buf.length - this.at;
  }
  u8() {
    return this.buf.readUInt8(this.at++);
  }
  u16() {
    this.at += 2;
    return this.buf.readUInt16BE(this.at - 2);
  }
}

function decodeUplink(input) {
  const frame = new Frame(input.bytes);
  if (frame.left < 6) return { errors: ["too short"] };
  const height = frame.u16();
  const interval = frame.u8();
  const flags = frame.u8();
  const levels = [];
  while (frame.left >= 2) {
    const distance = frame.u16();
    levels.push(distance === 0 || distance > height ? null : height - distance);
  }
  const newest = input.recvTime.getTime();
  const history = levels.map((level, i) => ({ at: new Date(newest - i * interval * 60000).toISOString(), level }));
  const warnings = [];
  if (flags & 1) warnings.push("foam or condensation");
  if (levels[0] === null) warnings.push("no echo");
  const data = { level: levels[0], percent: levels[0] === null ? null : Math.round((levels[0] / height) * 1000) / 10 };
  if (history.length > 1) data.history = history;
  return { data, warnings };
}
