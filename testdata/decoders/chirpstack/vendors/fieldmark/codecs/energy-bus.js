// Fieldmark EB-1: passes on the registers of a meter on a field bus, unit, function, count, values and CRC-16 as on the wire.
function crc16(buf) {
  let crc = 0xffff;
  for (const byte of buf) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xa001 : crc >>> 1;
  }
  return crc;
}

class Registers {
  constructor(buf) {
    this.buf = buf;
  }
  float(register) {
    return Math.round(this.buf.readFloatBE(register * 2) * 100) / 100;
  }
  counter(register) {
    return Number(this.buf.readBigUInt64BE(register * 2)) / 1000;
  }
}

module.exports.decodeUplink = function (input) {
  const frame = Buffer.from(input.bytes);
  if (frame.length < 5) return { errors: ["no frame"] };
  const body = frame.subarray(0, frame.length - 2);
  if (crc16(body) !== frame.readUInt16LE(frame.length - 2)) return { errors: ["the checksum is wrong"] };
  const unit = frame.readUInt8(0), code = frame.readUInt8(1);
  if (code & 0x80) return { errors: [`unit ${unit} refuses with code ${frame.readUInt8(2)}`] };
  const count = frame.readUInt8(2);
  if (count !== body.length - 3) return { errors: ["the count is not that of the values"] };
  const r = new Registers(body.subarray(3));
  const volts = [0, 2, 4].map((at) => r.float(at)), amps = [6, 8, 10].map((at) => r.float(at));
  return {
    data: { unit, volts, amps, power: Math.round(volts.reduce((sum, v, i) => sum + v * amps[i], 0)), energy: r.counter(12) },
    warnings: volts.some((v) => v < 207 || v > 253) ? ["voltage is beyond its band"] : [],
  };
};
