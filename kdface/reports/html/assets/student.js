// Student's t: the factor of a two-sided 95 % interval.
const T_975 = [12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469]; // of 1, 2, ... degrees of freedom
// Beyond, the expansion by Fisher and Cornish about the normal deviate z (Abramowitz and Stegun, 26.7.5), whose error
// is below 5e-5 from 7 degrees of freedom on.
function t975(freedom) {
  if (freedom <= T_975.length) return T_975[freedom - 1];
  const z = 1.959963984540054, terms = [
    (z ** 3 + z) / 4,
    (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96,
    (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384,
    (79 * z ** 9 + 776 * z ** 7 + 1482 * z ** 5 - 1920 * z ** 3 - 945 * z) / 92160,
  ];
  return terms.reduce((sum, term, k) => sum + term / freedom ** (k + 1), z);
}
