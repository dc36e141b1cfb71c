// Harrow CA-1: carbon dioxide, air and pressure.
function decodeUplink(input) {
  switch (input.fPort) {
    case 3: {
      const b = input.bytes;
      if (b.length !== 8) {
        return { errors: ["a frame has 8 bytes"] };
      }
      const data = {
        co2: (b[0] << 8) | b[1],
        temperature: ((b[2] << 8) | b[3]) / 100 - 40,
        humidity: b[4],
        pressure: ((b[5] << 8) | b[6]) / 10,
        battery: b[7] / 50,
      };
      data.temperature = Math.round(data.temperature * 100) / 100;
      const warnings = [];
      if (data.co2 > 1400) warnings.push("air the room");
      if (data.co2 === 0) warnings.push("the sensor is warming up");
      return { data, warnings };
    }
    default:
      return { errors: ["unknown FPort"] };
  }
}

function normalizeUplink(input) {
  return { data: { air: { co2: input.data.co2, temperature: input.data.temperature, relativeHumidity: input.data.humidity } } };
}
