// Northquay AT-2: position, speed and a time of which only the lower 16 bits are sent.
function fixTime(low, recvTime) {
  var now = Math.floor(recvTime.getTime() / 1000);
  var t = now - (now % 65536) + low;
  if (t > now + 3600) t -= 65536; // it was sent before the counter went round
  return new Date(t * 1000).toISOString();
}

function decodeUplink(input) {
  var buf = Buffer.from(input.bytes);
  if (input.fPort === 2) {
    return { data: { alive: true, battery: buf.readUInt8(0) * 20 + 1500 } };
  }
  if (input.fPort !== 1) return { errors: ["unknown port"] };
  if (buf.length < 15) return { errors: ["too short: " + buf.toString("hex")] };
  var data = {
    latitude: buf.readInt32LE(0) / 1e7,
    longitude: buf.readInt32LE(4) / 1e7,
    altitude: buf.readInt16LE(8),
    speed: buf.readUInt8(10),
    heading: buf.readUInt8(11) * 2,
    satellites: buf.readUInt8(12) & 0x0f,
    moving: (buf.readUInt8(12) & 0x80) !== 0,
    fixedAt: fixTime(buf.readUInt16LE(13), input.recvTime),
  };
  var warnings = [];
  if (data.satellites < 4) warnings.push("fewer than four satellites");
  return { data: data, warnings: warnings };
}
