// Harrow LR-1: a rope that feels water, with the metre where it does.
function decodeUplink(input) {
  const [kind, ...rest] = input.bytes;
  switch (kind) {
    case 0x01:
      return rest.length === 2 ? { data: { wet: false, rope: rest[0], battery: rest[1] } } : { errors: ["status: wrong length"] };
    case 0x02: {
      if (rest.length !== 3) return { errors: ["alarm: wrong length"] };
      const metre = (rest[0] * 256 + rest[1]) / 100;
      return { data: { wet: true, metre, severity: ["drops", "puddle", "flood"][rest[2]] ?? "unknown" }, warnings: [`water at ${metre} m`] };
    }
    case 0x03:
      return { errors: ["the rope is broken", `after ${rest[0]} m`] };
  }
  return { errors: ["unknown frame"] };
}
