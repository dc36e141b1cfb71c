// Northquay WP-1, in three stages: what was sent, whether it can be, what it means.
function decode(input) {
  const b = input.bytes;
  if (b.length < 9) throw new Error("a frame has at least 9 bytes");
  const u32 = (i) => ((b[i] << 24) | (b[i + 1] << 16) | (b[i + 2] << 8) | b[i + 3]) >>> 0;
  return { pulses: u32(0), backflow: u32(4), alarms: b[8], perPulse: Number(input.variables.litres_per_pulse || "1") };
}

function validate(o, input) {
  const messages = [];
  if (!(o.perPulse > 0)) messages.push("litres_per_pulse is no number above zero");
  if (o.backflow > o.pulses) messages.push("more flowed back than through");
  if (input.fPort !== 4) messages.push("frames come on port 4");
  return messages;
}

function transform(o, input) {
  const names = ["leak", "burst", "reverse flow", "frost", "magnet"];
  return {
    volume: Math.round(o.pulses * o.perPulse * 1000) / 1000,
    net: Math.round((o.pulses - o.backflow) * o.perPulse * 1000) / 1000,
    alarms: names.filter((_, bit) => o.alarms & (1 << bit)),
    readAt: input.recvTime.toISOString(),
  };
}
