// A small Buffer in the manner of Node's, for scripts that name it: what codecs use, over Uint8Array.
(function () {
  "use strict";
  var G = globalThis, U8 = Uint8Array, B64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  function norm(e) { return e === undefined ? "utf8" : String(e).toLowerCase().replace("-", ""); }
  function encode(text, enc) {
    var out = [], i, c;
    switch (norm(enc)) {
      case "hex":
        for (i = 0; i + 1 < text.length; i += 2) {
          c = parseInt(text.substr(i, 2), 16);
          if (c !== c) break;
          out.push(c);
        }
        return out;
      case "base64": case "base64url":
        var bits = 0, acc = 0;
        for (i = 0; i < text.length; i++) {
          c = text[i];
          if (c === "-") c = "+";
          if (c === "_") c = "/";
          c = B64.indexOf(c);
          if (c < 0) continue;
          acc = (acc << 6) | c;
          bits += 6;
          if (bits >= 8) { bits -= 8; out.push((acc >> bits) & 255); }
        }
        return out;
      case "ascii": case "latin1": case "binary":
        for (i = 0; i < text.length; i++) out.push(text.charCodeAt(i) & 255);
        return out;
      case "utf8":
        text = unescape(encodeURIComponent(text));
        for (i = 0; i < text.length; i++) out.push(text.charCodeAt(i));
        return out;
    }
    throw new TypeError("Unknown encoding: " + enc);
  }
  class Buffer extends U8 {
    static from(v, enc, n) {
      if (typeof v === "string") return Buffer.of(...encode(v, enc));
      if (v instanceof ArrayBuffer) return new Buffer(v, enc, n);
      var b = new Buffer(v.length >>> 0);
      for (var i = 0; i < b.length; i++) b[i] = v[i] & 255;
      return b;
    }
    static alloc(n, fill, enc) { var b = new Buffer(n); return fill === undefined ? b : b.fill(fill, 0, n, enc); }
    static allocUnsafe(n) { return new Buffer(n); }
    static isBuffer(v) { return v instanceof Buffer; }
    static byteLength(s, enc) { return typeof s === "string" ? encode(s, enc).length : s.byteLength; }
    static compare(a, b) { return a.compare(b); }
    static concat(list, total) {
      var n = 0, at = 0, i;
      for (i = 0; i < list.length; i++) n += list[i].length;
      var b = new Buffer(total === undefined ? n : total);
      for (i = 0; i < list.length && at < b.length; i++) {
        b.set(list[i].subarray(0, b.length - at), at);
        at += list[i].length;
      }
      return b;
    }
    fill(v, from, to, enc) {
      if (typeof v !== "string") return super.fill(v, from, to);
      var b = encode(v, enc), start = from || 0, end = to === undefined ? this.length : to;
      for (var i = start; i < end; i++) this[i] = b.length ? b[(i - start) % b.length] : 0;
      return this;
    }
    slice(a, b) { return this.subarray(a, b); }
    equals(o) { return this.compare(o) === 0; }
    compare(o) {
      for (var i = 0; i < this.length && i < o.length; i++) if (this[i] !== o[i]) return this[i] < o[i] ? -1 : 1;
      return this.length === o.length ? 0 : this.length < o.length ? -1 : 1;
    }
    copy(target, at, from, to) { var p = this.subarray(from || 0, to); target.set(p, at || 0); return p.length; }
    write(text, at, n, enc) {
      if (typeof at === "string") { enc = at; at = 0; n = undefined; }
      if (typeof n === "string") { enc = n; n = undefined; }
      var b = encode(text, enc), i = 0;
      at = at || 0;
      for (; i < b.length && at + i < this.length && (n === undefined || i < n); i++) this[at + i] = b[i];
      return i;
    }
    toJSON() { return { type: "Buffer", data: Array.from(this) }; }
    toString(enc, from, to) {
      var b = this.subarray(from || 0, to), s = "", i;
      switch (norm(enc)) {
        case "hex":
          for (i = 0; i < b.length; i++) s += (b[i] < 16 ? "0" : "") + b[i].toString(16);
          return s;
        case "base64":
          for (i = 0; i < b.length; i += 3) {
            var t = (b[i] << 16) | ((b[i + 1] || 0) << 8) | (b[i + 2] || 0);
            s += B64[t >> 18] + B64[(t >> 12) & 63] + (i + 1 < b.length ? B64[(t >> 6) & 63] : "=") + (i + 2 < b.length ? B64[t & 63] : "=");
          }
          return s;
        case "ascii":
          for (i = 0; i < b.length; i++) s += String.fromCharCode(b[i] & 127);
          return s;
        case "latin1": case "binary":
          for (i = 0; i < b.length; i++) s += String.fromCharCode(b[i]);
          return s;
        case "utf8":
          for (i = 0; i < b.length; i++) s += String.fromCharCode(b[i]);
          try { return decodeURIComponent(escape(s)); } catch (e) { return s; }
      }
      throw new TypeError("Unknown encoding: " + enc);
    }
    readUIntBE(at, n) { check(this, at, n); var v = 0; for (var i = 0; i < n; i++) v = v * 256 + this[at + i]; return v; }
    readUIntLE(at, n) { check(this, at, n); var v = 0; for (var i = n - 1; i >= 0; i--) v = v * 256 + this[at + i]; return v; }
    readIntBE(at, n) { return signed(this.readUIntBE(at, n), n); }
    readIntLE(at, n) { return signed(this.readUIntLE(at, n), n); }
    writeUIntBE(v, at, n) { check(this, at, n); for (var i = n - 1; i >= 0; i--) { this[at + i] = v & 255; v = Math.floor(v / 256); } return at + n; }
    writeUIntLE(v, at, n) { check(this, at, n); for (var i = 0; i < n; i++) { this[at + i] = v & 255; v = Math.floor(v / 256); } return at + n; }
  }
  function check(b, at, n) { if (typeof at !== "number" || at < 0 || at + n > b.length) throw new RangeError("The value of \"offset\" is out of range."); }
  function signed(v, n) { var half = Math.pow(2, 8 * n - 1); return v >= half ? v - 2 * half : v; }
  var P = Buffer.prototype;
  function alias(name, f) { P[name] = f; P[name.replace("UInt", "Uint")] = f; }
  alias("readUIntBE", P.readUIntBE); alias("readUIntLE", P.readUIntLE);
  [["8", 1], ["16BE", 2], ["16LE", 2], ["32BE", 4], ["32LE", 4]].forEach(function (k) {
    var le = k[0].slice(-2) === "LE", n = k[1];
    alias("readUInt" + k[0], function (at) { at = at || 0; return le ? this.readUIntLE(at, n) : this.readUIntBE(at, n); });
    alias("writeUInt" + k[0], function (v, at) { at = at || 0; return le ? this.writeUIntLE(v, at, n) : this.writeUIntBE(v, at, n); });
    P["readInt" + k[0]] = function (at) { at = at || 0; return le ? this.readIntLE(at, n) : this.readIntBE(at, n); };
    P["writeInt" + k[0]] = P["writeUInt" + k[0]];
  });
  [["readFloat", "getFloat32", 4], ["readDouble", "getFloat64", 8], ["readBigInt64", "getBigInt64", 8], ["readBigUInt64", "getBigUint64", 8]].forEach(function (k) {
    ["BE", "LE"].forEach(function (e) {
      alias(k[0] + e, function (at) {
        at = at || 0;
        check(this, at, k[2]);
        return new DataView(this.buffer, this.byteOffset, this.byteLength)[k[1]](at, e === "LE");
      });
      alias(k[0].replace("read", "write") + e, function (v, at) {
        at = at || 0;
        check(this, at, k[2]);
        new DataView(this.buffer, this.byteOffset, this.byteLength)[k[1].replace("get", "set")](at, v, e === "LE");
        return at + k[2];
      });
    });
  });
  G.Buffer = Buffer;
})();
