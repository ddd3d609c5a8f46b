import { expect, test } from "vitest";
import { bytes, clock, count, short } from "./format";

test("numbers for people", () => {
  expect(count(1234567)).toBe("1,234,567");
  expect(short(3013632)).toBe("3.0M");
  expect(short(0.123456)).toBe("0.123");
  expect(bytes(36240136)).toBe("36.2 MB");
  expect(clock(3725)).toBe("1:02:05");
  expect(clock(59.6)).toBe("1:00");
});
