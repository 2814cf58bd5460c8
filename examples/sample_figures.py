"""The figures of the sample report, and what follows from them.

Everything in the report that must add up is computed here from a few tables of data, so that the financial
statements balance by construction and the prose can quote them. Knows nothing of pages or PDF. `change("Investments",
2024)` is a balance-sheet change, `flow("Grants", 2024)` an amount of the year.

Money is in thousands of dollars, water in millions of gallons (MG), storage in acre-feet, years are fiscal years
ended June 30.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

STATEMENT_YEARS = (2024, 2023, 2022)  # the columns of every financial statement
FIVE_YEARS = (2020, 2021, 2022, 2023, 2024)
TEN_YEARS = tuple(range(2015, 2025))

# What came in and went out, for 2022, 2023 and 2024. An expense is a positive number.
OPERATING_REVENUES = {
    "Water sales, volumetric charges": (44_871, 46_205, 48_912),
    "Fixed service charges": (19_540, 20_418, 21_336),
    "Wholesale water sales": (3_655, 4_102, 3_874),
    "Private fire protection": (1_051, 1_094, 1_128),
    "Late fees and other operating revenue": (1_588, 1_806, 1_947),
}
OPERATING_EXPENSES = {
    "Source of supply": (10_388, 9_615, 9_842),
    "Power and pumping": (5_984, 6_731, 6_415),
    "Water treatment": (9_902, 10_574, 11_268),
    "Transmission and distribution": (11_630, 12_144, 12_907),
    "Customer service": (4_275, 4_402, 4_583),
    "Administration and general": (8_614, 8_971, 9_356),
    "Depreciation and amortization": (13_122, 13_640, 14_218),
}
NONOPERATING = {
    "Property tax share": (4_905, 5_046, 5_230),
    "Investment earnings (loss)": (-604, 1_986, 3_412),
    "Rental and lease revenue": (695, 718, 742),
    "Interest expense": (-5_902, -5_744, -6_018),
    "Gain (loss) on disposal of assets": (-312, 64, -187),
}
CONTRIBUTIONS = {
    "Grants": (1_120, 2_275, 4_150),
    "Assets contributed by developers": (3_507, 2_941, 3_286),
    "Capacity fees": (3_344, 3_077, 2_618),
}
CASH_FLOWS = {
    "Payments to employees": (-24_910, -26_040, -27_385),
    "Acquisition of capital assets": (-29_870, -31_455, -35_120),
    "Proceeds of state revolving fund loans": (0, 4_180, 6_240),
    "Principal paid on bonds and loans": (-6_820, -7_105, -7_420),
    "Principal paid on leases": (-195, -203, -208),
    "Proceeds from disposal of assets": (58, 142, 35),
}
NEW_LEASES = {2022: 0, 2023: 0, 2024: 790}  # right-of-use assets gained without cash

# What stood on the books on June 30 of 2021, 2022, 2023 and 2024. Cash, capital assets and net position follow
# from the flows above and are computed below.
BALANCES = {
    "Investments": (36_200, 38_050, 41_700, 39_900),
    "Restricted investments": (24_980, 15_310, 9_870, 11_250),
    "Accounts receivable, net": (8_412, 8_690, 9_044, 9_517),
    "Grants receivable": (310, 460, 905, 1_780),
    "Materials and supplies": (2_215, 2_304, 2_688, 2_541),
    "Prepaid items": (884, 902, 937, 1_012),
    "Lease receivable": (3_120, 2_905, 2_684, 2_457),
    "Pension and OPEB items, outflows": (6_140, 7_205, 8_012, 7_436),
    "Deferred loss on refunding": (2_310, 2_090, 1_870, 1_650),
    "Accounts payable": (5_920, 6_344, 6_781, 7_205),
    "Accrued payroll and absences": (3_318, 3_402, 3_560, 3_744),
    "Customer deposits": (1_640, 1_702, 1_755, 1_818),
    "Accrued interest payable": (1_480, 1_436, 1_395, 1_510),
    "Bonds and loans": (153_280, 146_460, 143_535, 142_355),
    "Unamortized bond premium": (8_960, 8_320, 7_680, 7_040),
    "Lease liability": (1_210, 1_015, 812, 1_394),
    "Net pension liability": (19_460, 23_815, 27_340, 26_102),
    "Net OPEB liability": (8_210, 8_044, 7_905, 7_688),
    "Pension and OPEB items, inflows": (4_915, 2_604, 1_880, 2_415),
    "Lease items, inflows": (2_990, 2_768, 2_540, 2_309),
}
CASH_2021 = 26_640
CAPITAL_ASSETS_2021 = 402_300
RESTRICTED_FOR_DEBT_SERVICE = {2022: 6_900, 2023: 7_150, 2024: 7_410}
RESTRICTED_FOR_CAPITAL = {2022: 2_980, 2023: 2_410, 2024: 3_205}

_FLOWS = {**OPERATING_REVENUES, **OPERATING_EXPENSES, **NONOPERATING, **CONTRIBUTIONS, **CASH_FLOWS}


def flow(name: str, year: int) -> int:
    return _FLOWS[name][year - 2022]


def balance(name: str, year: int) -> int:
    return BALANCES[name][year - 2021]


def change(name: str, year: int) -> int:
    return balance(name, year) - balance(name, year - 1)


def operating_revenue(year: int) -> int:
    return sum(flow(name, year) for name in OPERATING_REVENUES)


def operating_expense(year: int) -> int:
    return sum(flow(name, year) for name in OPERATING_EXPENSES)


def operating_income(year: int) -> int:
    return operating_revenue(year) - operating_expense(year)


def nonoperating(year: int) -> int:
    return sum(flow(name, year) for name in NONOPERATING)


def total_revenue(year: int) -> int:
    """Operating and nonoperating revenue before contributions; losses are not counted as revenue."""
    names = ("Property tax share", "Investment earnings (loss)", "Rental and lease revenue")
    return operating_revenue(year) + sum(max(0, flow(name, year)) for name in names)


def contributions(year: int) -> int:
    return sum(flow(name, year) for name in CONTRIBUTIONS)


def change_in_net_position(year: int) -> int:
    return operating_income(year) + nonoperating(year) + contributions(year)


# The statement of cash flows. Each line is a function of the year, so that the statement and its subtotals use one
# and the same rule.


def receipts_from_customers(year: int) -> int:
    return operating_revenue(year) - change("Accounts receivable, net", year) + change("Customer deposits", year)


RECONCILING_ITEMS: dict[str, Callable[[int], int]] = {
    "Depreciation and amortization": lambda y: flow("Depreciation and amortization", y),
    "Change in accounts receivable": lambda y: -change("Accounts receivable, net", y),
    "Change in materials and prepaid items": lambda y: (
        -change("Materials and supplies", y) - change("Prepaid items", y)
    ),
    "Change in accounts payable": lambda y: change("Accounts payable", y),
    "Change in accrued payroll and absences": lambda y: change("Accrued payroll and absences", y),
    "Change in customer deposits": lambda y: change("Customer deposits", y),
    "Change in pension and OPEB balances": lambda y: (
        change("Net pension liability", y)
        + change("Net OPEB liability", y)
        + change("Pension and OPEB items, inflows", y)
        - change("Pension and OPEB items, outflows", y)
    ),
}


def operating_cash(year: int) -> int:
    return operating_income(year) + sum(item(year) for item in RECONCILING_ITEMS.values())


def payments_to_suppliers(year: int) -> int:
    return operating_cash(year) - receipts_from_customers(year) - flow("Payments to employees", year)


def interest_paid(year: int) -> int:
    return (
        flow("Interest expense", year)
        + change("Accrued interest payable", year)
        + change("Unamortized bond premium", year)
        - change("Deferred loss on refunding", year)
    )


CAPITAL_FINANCING: dict[str, Callable[[int], int]] = {
    "Acquisition of capital assets": lambda y: flow("Acquisition of capital assets", y),
    "Proceeds of state revolving fund loans": lambda y: flow("Proceeds of state revolving fund loans", y),
    "Principal paid on bonds and loans": lambda y: flow("Principal paid on bonds and loans", y),
    "Principal paid on leases": lambda y: flow("Principal paid on leases", y),
    "Interest paid": interest_paid,
    "Grants received": lambda y: flow("Grants", y) - change("Grants receivable", y),
    "Capacity fees received": lambda y: flow("Capacity fees", y),
    "Proceeds from disposal of assets": lambda y: flow("Proceeds from disposal of assets", y),
}
INVESTING: dict[str, Callable[[int], int]] = {
    "Investment earnings received (loss realized)": lambda y: flow("Investment earnings (loss)", y),
    "Sales (purchases) of investments, net": lambda y: -change("Investments", y) - change("Restricted investments", y),
    "Rents and lease payments received": lambda y: (
        flow("Rental and lease revenue", y) - change("Lease receivable", y) + change("Lease items, inflows", y)
    ),
}


def capital_financing_cash(year: int) -> int:
    return sum(line(year) for line in CAPITAL_FINANCING.values())


def investing_cash(year: int) -> int:
    return sum(line(year) for line in INVESTING.values())


def change_in_cash(year: int) -> int:
    return operating_cash(year) + flow("Property tax share", year) + capital_financing_cash(year) + investing_cash(year)


def cash(year: int) -> int:
    return CASH_2021 if year == 2021 else cash(year - 1) + change_in_cash(year)


def book_value_disposed(year: int) -> int:
    return flow("Proceeds from disposal of assets", year) - flow("Gain (loss) on disposal of assets", year)


def capital_assets(year: int) -> int:
    """Net of depreciation, on June 30 of `year`."""
    if year == 2021:
        return CAPITAL_ASSETS_2021
    return (
        capital_assets(year - 1)
        - flow("Acquisition of capital assets", year)
        + flow("Assets contributed by developers", year)
        + NEW_LEASES[year]
        - flow("Depreciation and amortization", year)
        - book_value_disposed(year)
    )


# The statement of net position.

CURRENT_ASSETS = (
    "Investments",
    "Accounts receivable, net",
    "Grants receivable",
    "Materials and supplies",
    "Prepaid items",
)
DEFERRED_OUTFLOWS = ("Pension and OPEB items, outflows", "Deferred loss on refunding")
CURRENT_PAYABLES = (
    "Accounts payable",
    "Accrued payroll and absences",
    "Customer deposits",
    "Accrued interest payable",
)
LONG_TERM_LIABILITIES = ("Unamortized bond premium", "Lease liability", "Net pension liability", "Net OPEB liability")
DEFERRED_INFLOWS = ("Pension and OPEB items, inflows", "Lease items, inflows")


def sum_of(names: Sequence[str], year: int) -> int:
    return sum(balance(name, year) for name in names)


def current_assets(year: int) -> int:
    return cash(year) + sum_of(CURRENT_ASSETS, year)


def noncurrent_assets(year: int) -> int:
    return sum_of(("Restricted investments", "Lease receivable"), year) + capital_assets(year)


def total_assets(year: int) -> int:
    return current_assets(year) + noncurrent_assets(year)


def current_principal(year: int) -> int:
    """Principal due in the year after `year`."""
    if year == 2024:
        return sum(series.principal[2025] for series in DEBT)
    return -flow("Principal paid on bonds and loans", year + 1)


def current_liabilities(year: int) -> int:
    return sum_of(CURRENT_PAYABLES, year) + current_principal(year)


def noncurrent_liabilities(year: int) -> int:
    return balance("Bonds and loans", year) - current_principal(year) + sum_of(LONG_TERM_LIABILITIES, year)


def total_liabilities(year: int) -> int:
    return current_liabilities(year) + noncurrent_liabilities(year)


def net_position(year: int) -> int:
    return (
        total_assets(year) + sum_of(DEFERRED_OUTFLOWS, year) - total_liabilities(year) - sum_of(DEFERRED_INFLOWS, year)
    )


def net_investment_in_capital_assets(year: int) -> int:
    debt = sum_of(("Bonds and loans", "Unamortized bond premium", "Lease liability"), year)
    return capital_assets(year) + balance("Deferred loss on refunding", year) - debt


def unrestricted_net_position(year: int) -> int:
    restricted = RESTRICTED_FOR_DEBT_SERVICE[year] + RESTRICTED_FOR_CAPITAL[year]
    return net_position(year) - net_investment_in_capital_assets(year) - restricted


# Debt, repaid in level yearly payments.


@dataclass(frozen=True)
class Debt:
    """One bond series or loan, with its repayment computed year by year from fiscal year 2025 on."""

    name: str
    issued: int
    original: int
    outstanding: int
    rate: float
    last_year: int
    principal: dict[int, int] = field(default_factory=dict)
    interest: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        years = self.last_year - 2024
        payment = self.outstanding * self.rate / (1 - (1 + self.rate) ** -years)
        left = self.outstanding
        for year in range(2025, self.last_year + 1):
            self.interest[year] = round(left * self.rate)
            self.principal[year] = left if year == self.last_year else round(payment) - self.interest[year]
            left -= self.principal[year]


DEBT = (
    Debt("Revenue Bonds, Series 2012", 2012, 41_300, 18_400, 0.0450, 2030),
    Debt("Revenue Refunding Bonds, Series 2016", 2016, 58_900, 46_750, 0.0500, 2040),
    Debt("Green Revenue Bonds, Series 2021", 2021, 66_500, 62_300, 0.0425, 2043),
    Debt("State revolving fund loans", 2018, 18_100, 14_905, 0.0190, 2044),
)
DEBT_PERIODS = [
    (2025, 2025),
    (2026, 2026),
    (2027, 2027),
    (2028, 2028),
    (2029, 2029),
    (2030, 2034),
    (2035, 2039),
    (2040, 2044),
]


def debt_service(year: int) -> int:
    return -flow("Principal paid on bonds and loans", year) - interest_paid(year)


def net_revenue_for_debt(year: int) -> int:
    """The numerator of the coverage ratio: all recurring revenue less operating expense before depreciation."""
    names = ("Property tax share", "Investment earnings (loss)", "Rental and lease revenue")
    cash_expense = operating_expense(year) - flow("Depreciation and amortization", year)
    return operating_revenue(year) + sum(flow(name, year) for name in names) - cash_expense


def coverage(year: int) -> float:
    return net_revenue_for_debt(year) / debt_service(year)


# Water: where it came from and who used it, 2020 to 2024, in MG.

SUPPLY = {
    "Lake Ansel": (5_912, 5_604, 5_188, 5_377, 5_733),
    "Upper Tamarack Reservoir": (3_318, 3_207, 2_946, 3_015, 3_241),
    "Sill Creek Reservoir": (1_104, 1_052, 918, 987, 1_046),
    "Hollis wellfield": (1_386, 1_571, 1_890, 1_744, 1_502),
    "Dunmore wellfield": (742, 806, 911, 858, 603),
    "Purchased from Norvale Aqueduct": (215, 488, 1_036, 702, 341),
}
CONSUMPTION = {
    "Single-family residential": (5_968, 6_041, 5_912, 5_790, 5_716),
    "Multi-family residential": (1_684, 1_702, 1_731, 1_748, 1_763),
    "Commercial": (1_302, 1_188, 1_274, 1_310, 1_321),
    "Industrial": (748, 771, 802, 745, 716),
    "Institutional": (512, 441, 498, 505, 509),
    "Irrigation": (884, 936, 842, 801, 774),
    "Wholesale": (520, 548, 571, 602, 553),
}
ACCOUNTS = {
    "Single-family residential": (50_912, 51_377, 51_840, 52_296, 52_701),
    "Multi-family residential": (3_204, 3_241, 3_288, 3_322, 3_359),
    "Commercial": (3_618, 3_604, 3_631, 3_655, 3_672),
    "Industrial": (141, 140, 142, 139, 137),
    "Institutional": (402, 404, 405, 409, 411),
    "Irrigation": (921, 934, 940, 944, 952),
    "Wholesale": (3, 3, 3, 3, 3),
}


def total(table: dict[str, tuple[int, ...]], year: int) -> int:
    """Sum of a five-year table over its rows."""
    return sum(values[year - 2020] for values in table.values())


def non_revenue_water(year: int) -> int:
    return total(SUPPLY, year) - total(CONSUMPTION, year)


# Storage at the end of each month of fiscal year 2024, in acre-feet, and the total a year before.
MONTHS = ("Jul 2023", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan 2024", "Feb", "Mar", "Apr", "May", "Jun")
RESERVOIRS = {"Lake Ansel": 48_200, "Upper Tamarack": 31_500, "Sill Creek": 12_850}
STORAGE = {
    "Lake Ansel": (41_820, 39_160, 36_905, 35_440, 34_870, 36_210, 38_655, 40_930, 43_775, 46_120, 47_640, 46_310),
    "Upper Tamarack": (27_440, 25_690, 24_115, 23_280, 23_050, 23_960, 25_310, 26_870, 28_745, 30_410, 31_280, 30_155),
    "Sill Creek": (10_960, 10_245, 9_610, 9_180, 9_065, 9_540, 10_215, 10_870, 11_690, 12_410, 12_790, 12_240),
}
STORAGE_2023 = (68_410, 62_730, 58_190, 55_870, 55_020, 58_640, 64_905, 70_230, 77_415, 82_960, 84_105, 81_870)
CAPACITY = sum(RESERVOIRS.values())


def storage(month: int) -> int:
    return sum(values[month] for values in STORAGE.values())


# Mains: miles on June 30, 2024, and breaks in each of the five years.
MAINS = {
    "Ductile iron": (468.3, (31, 28, 33, 30, 27)),
    "PVC": (214.9, (14, 12, 15, 16, 13)),
    "Cast iron": (187.6, (92, 88, 97, 84, 71)),
    "Asbestos cement": (96.4, (36, 41, 44, 39, 38)),
    "Welded steel": (61.2, (11, 9, 12, 10, 8)),
    "HDPE": (14.2, (0, 1, 0, 0, 1)),
}
MILES = round(sum(miles for miles, _ in MAINS.values()), 1)


def breaks(year: int) -> int:
    return sum(counts[year - 2020] for _, counts in MAINS.values())


# Monthly rates: dollars per hundred cubic feet (ccf), fiscal years 2022 to 2025.
TIERS = {
    "Tier 1: first 6 ccf": (2.20, 2.31, 2.42, 2.54),
    "Tier 2: 7 to 14 ccf": (3.07, 3.22, 3.38, 3.55),
    "Tier 3: 15 to 30 ccf": (4.42, 4.68, 4.96, 5.26),
    "Tier 4: over 30 ccf": (6.34, 6.78, 7.25, 7.76),
}
UNIFORM_RATES = {
    "Multi-family residential (a)": (2.83, 2.96, 3.10, 3.25),
    "Commercial and institutional": (2.94, 3.08, 3.22, 3.38),
    "Industrial": (2.73, 2.85, 2.98, 3.12),
    "Irrigation (b)": (4.54, 4.81, 5.10, 5.41),
    "Wholesale (c)": (2.84, 2.94, 3.05, 3.16),
}
FIXED_CHARGES = {  # dollars a month by meter size
    "5/8 and 3/4 inch": (20.70, 21.75, 22.85, 24.00),
    "1 inch": (31.40, 33.00, 34.65, 36.40),
    "1-1/2 inch": (57.90, 60.80, 63.85, 67.05),
    "2 inch": (89.75, 94.25, 98.95, 103.90),
    "3 inch": (190.20, 199.70, 209.70, 220.20),
    "4 inch and larger (d)": (321.60, 337.70, 354.60, 372.30),
}


def monthly_bill(ccf: int, column: int) -> float:
    """A single-family bill for one month with the smallest meter; `column` 0 is fiscal year 2022."""
    bill, used = FIXED_CHARGES["5/8 and 3/4 inch"][column], 0
    for (_, rates), upper in zip(TIERS.items(), (6, 14, 30, 10_000), strict=True):
        bill += rates[column] * max(0, min(ccf, upper) - used)
        used = max(used, min(ccf, upper))
    return bill


# The capital program: number, name, budget, spent before fiscal year 2024, spent in it, completion.
PROJECTS = (
    ("C-101", "Ansel Plant filter rehabilitation", 24_600, 9_840, 7_215, "Mar 2026"),
    ("C-104", "Hollis Creek ozone system", 18_750, 12_310, 5_120, "Nov 2024"),
    ("C-110", "Sill Creek Dam spillway", 15_900, 1_480, 3_655, "Sep 2026"),
    ("C-112", "Weir Street main replacement", 6_480, 2_205, 3_940, "Feb 2024 *"),
    ("C-115", "Cast iron main renewal, phase 4", 11_250, 3_140, 4_280, "Jun 2026"),
    ("C-118", "Quarry Hill tank, 4 MG", 9_320, 6_905, 2_018, "May 2024 *"),
    ("C-121", "Dunmore wellfield PFAS treatment", 13_400, 640, 2_870, "Dec 2026"),
    ("C-123", "Advanced metering, all routes", 16_200, 8_730, 2_410, "Aug 2025"),
    ("C-127", "Larkspur Flats pump station", 4_150, 1_095, 1_260, "Jan 2025"),
    ("C-130", "Second Norvale interconnection", 7_800, 210, 385, "Apr 2028"),
    ("C-131", "Floating solar pilot, Upper Tamarack", 3_050, 1_790, 640, "Oct 2024"),
    ("C-134", "Supervisory control upgrade", 2_900, 415, 527, "Oct 2025"),
    ("C-140", "Vehicles, equipment and minor works", 850, 0, 800, "yearly"),
)

# Energy: electricity used, MWh, 2020 to 2024.
ENERGY = {
    "Ansel Treatment Plant": (8_905, 8_760, 8_412, 8_530, 8_790),
    "Hollis Creek Treatment Plant": (8_120, 8_065, 8_310, 8_590, 9_105),
    "Distribution pumping": (22_940, 22_610, 22_870, 22_055, 21_480),
    "Wellfields": (6_310, 7_020, 8_235, 7_640, 6_245),
    "Offices, yards and laboratory": (1_410, 1_285, 1_330, 1_345, 1_310),
}
ELECTRICITY_COST = (5_210, 5_388, 5_702, 6_094, 5_612)
RENEWABLE = (1_120, 1_345, 1_610, 2_480, 3_775)  # MWh made on the district's own sites

# People: filled full-time positions on June 30 of 2022, 2023 and 2024, and safety by fiscal year.
STAFF = {
    "Operations and maintenance": (98, 99, 101),
    "Treatment and water quality": (52, 53, 55),
    "Engineering": (34, 35, 36),
    "Customer service": (31, 30, 29),
    "Finance and information technology": (25, 26, 26),
    "Administration and human resources": (16, 16, 16),
}
HOURS_WORKED = (512, 506, 509, 516, 524)  # thousands
RECORDABLE_CASES = (9, 10, 9, 8, 7)
LOST_TIME_CASES = (4, 5, 4, 3, 2)
LOST_DAYS = (118, 164, 97, 61, 38)
VEHICLE_COLLISIONS = (12, 9, 14, 11, 10)
TRAINING_HOURS = (5_120, 4_610, 5_480, 6_030, 6_385)


def recordable_rate(year: int) -> float:
    """Cases per 200,000 hours worked."""
    return RECORDABLE_CASES[year - 2020] * 200 / HOURS_WORKED[year - 2020]


# Ten years, 2015 to 2024, where no other table of the report gives the figure.
POPULATION = (168_900, 170_700, 172_600, 174_300, 176_200, 178_300, 180_400, 182_500, 184_500, 186_400)
MILES_OF_MAIN = (1_004.1, 1_008.8, 1_012.5, 1_017.0, 1_021.3, 1_025.9, 1_030.2, 1_034.7, 1_038.8, MILES)
PEAK_DAY = (61.8, 60.4, 58.9, 59.7, 57.3, 56.8, 58.2, 57.5, 55.1, 53.9)  # million gallons a day
RAINFALL = (24.6, 31.2, 38.9, 27.4, 29.8, 26.1, 19.3, 17.8, 30.5, 33.7)  # inches
OLDER_ACCOUNTS = (56_214, 56_930, 57_588, 58_240, 58_731)  # 2015 to 2019
OLDER_PRODUCTION = (13_420, 13_188, 12_940, 13_061, 12_802)
OLDER_BREAK_RATE = (21.4, 20.8, 20.1, 19.2, 18.6)
OLDER_RECORDABLE_RATE = (5.1, 4.8, 4.9, 4.2, 4.4)
OLDER_REVENUE = (54_120, 55_873, 58_016, 60_942, 63_175, 65_230, 68_014)  # 2015 to 2021
OLDER_EXPENSE = (49_885, 51_306, 52_974, 55_240, 57_618, 59_402, 61_733)
OLDER_NET_CHANGE = (9_412, 8_705, 11_236, 10_118, 12_874, 11_540, 10_962)
OLDER_DEBT = (118_650, 113_940, 151_240, 145_985, 140_480, 134_810, 153_280)
OLDER_COVERAGE = (1.92, 1.95, 2.04, 1.88, 1.94, 1.99, 2.06)
OLDER_BILL = (37.90, 39.05, 40.20, 41.45, 42.60, 43.85, 45.10)
OLDER_STAFF = (268, 266, 264, 263, 261, 258, 255)


def check_figures() -> None:
    """What the computed statements promise to a reader who adds them up."""
    for year in STATEMENT_YEARS:
        assert net_position(year) - net_position(year - 1) == change_in_net_position(year), year
        assert unrestricted_net_position(year) > 0, year
        assert cash(year) > 0, year
    assert sum(project[4] for project in PROJECTS) == -flow("Acquisition of capital assets", 2024)
    assert sum(series.outstanding for series in DEBT) == balance("Bonds and loans", 2024)
    assert all(sum(s.principal.values()) == s.outstanding for s in DEBT)
    assert all(max(values) <= RESERVOIRS[name] for name, values in STORAGE.items())


# How a figure is printed.


def amount(value: int) -> str:
    """12,345 or (12,345); a dash for nothing."""
    return "-" if value == 0 else f"({-value:,})" if value < 0 else f"{value:,}"


def millions(thousands: int) -> str:
    return f"${thousands / 1000:,.1f} million"


def dollars(thousands: int) -> str:
    return f"${thousands:,},000"


def percent(new: float, old: float) -> str:
    """The size of a change, without its sign: the prose says whether it rose or fell."""
    return f"{abs(new / old - 1) * 100:.1f} percent"


def share(part: float, whole: float) -> str:
    return f"{part / whole * 100:.1f}"
