"""The pages of the sample report, one function each, in the order in which they are printed.

Numbers that the report computes come from `sample_figures`; the others are facts told once, here. A page that gets
too long is an error, not a new page.
"""

import math
from collections.abc import Callable

from reportlab.lib.colors import Color, HexColor
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import Flowable, Paragraph
from sample_figures import (
    ACCOUNTS,
    CAPACITY,
    CAPITAL_FINANCING,
    CONSUMPTION,
    CONTRIBUTIONS,
    CURRENT_ASSETS,
    CURRENT_PAYABLES,
    DEBT,
    DEBT_PERIODS,
    DEFERRED_INFLOWS,
    DEFERRED_OUTFLOWS,
    ELECTRICITY_COST,
    ENERGY,
    FIVE_YEARS,
    FIXED_CHARGES,
    HOURS_WORKED,
    INVESTING,
    LONG_TERM_LIABILITIES,
    LOST_DAYS,
    LOST_TIME_CASES,
    MAINS,
    MILES,
    MILES_OF_MAIN,
    MONTHS,
    NEW_LEASES,
    NONOPERATING,
    OLDER_ACCOUNTS,
    OLDER_BILL,
    OLDER_BREAK_RATE,
    OLDER_COVERAGE,
    OLDER_DEBT,
    OLDER_EXPENSE,
    OLDER_NET_CHANGE,
    OLDER_PRODUCTION,
    OLDER_RECORDABLE_RATE,
    OLDER_REVENUE,
    OLDER_STAFF,
    OPERATING_EXPENSES,
    OPERATING_REVENUES,
    PEAK_DAY,
    POPULATION,
    PROJECTS,
    RAINFALL,
    RECONCILING_ITEMS,
    RECORDABLE_CASES,
    RENEWABLE,
    RESERVOIRS,
    RESTRICTED_FOR_CAPITAL,
    RESTRICTED_FOR_DEBT_SERVICE,
    STAFF,
    STATEMENT_YEARS,
    STORAGE,
    STORAGE_2023,
    SUPPLY,
    TEN_YEARS,
    TIERS,
    TRAINING_HOURS,
    UNIFORM_RATES,
    VEHICLE_COLLISIONS,
    amount,
    balance,
    book_value_disposed,
    breaks,
    capital_assets,
    capital_financing_cash,
    cash,
    change_in_cash,
    change_in_net_position,
    contributions,
    coverage,
    current_assets,
    current_liabilities,
    current_principal,
    dollars,
    flow,
    investing_cash,
    millions,
    monthly_bill,
    net_investment_in_capital_assets,
    net_position,
    non_revenue_water,
    noncurrent_assets,
    noncurrent_liabilities,
    nonoperating,
    operating_cash,
    operating_expense,
    operating_income,
    operating_revenue,
    payments_to_suppliers,
    percent,
    receipts_from_customers,
    recordable_rate,
    share,
    storage,
    total,
    total_assets,
    total_liabilities,
    total_revenue,
    unrestricted_net_position,
)
from sample_layout import (
    BLUE,
    BODY,
    COLUMN,
    DISTRICT,
    FRONT_MATTER_PAGES,
    INK,
    MARGIN,
    PAGE_HEIGHT,
    PAGE_WIDTH,
    BarChart,
    Heading,
    Leader,
    Page,
    Row,
    Table,
    balances,
    by_year,
    flows,
    items,
    notes,
    page_label,
    prose,
    rows,
    section,
)
from sample_scan import draw_scan


def draw_cover(canvas: Canvas) -> None:
    canvas.setFillColor(BLUE)
    canvas.rect(0, PAGE_HEIGHT * 0.42, PAGE_WIDTH, PAGE_HEIGHT * 0.58, stroke=0, fill=1)
    for ridge, (base, height, shade) in enumerate(((0.60, 74, 0.36), (0.53, 58, 0.46), (0.46, 46, 0.58))):
        canvas.setFillColor(Color(shade * 0.55, shade * 0.95, shade * 1.05))
        outline = canvas.beginPath()
        outline.moveTo(0, PAGE_HEIGHT * 0.42)
        for step in range(62):
            wave = math.sin(step * 0.31 + ridge * 1.9) + 0.6 * math.sin(step * 0.83 + ridge)
            outline.lineTo(step * PAGE_WIDTH / 61, PAGE_HEIGHT * base + height * 0.4 * wave)
        outline.lineTo(PAGE_WIDTH, PAGE_HEIGHT * 0.42)
        outline.close()
        canvas.drawPath(outline, stroke=0, fill=1)
    canvas.setFillColor(HexColor("#ffffff"))
    canvas.setFont("Helvetica", 15)
    canvas.drawString(MARGIN, PAGE_HEIGHT - 96, DISTRICT)
    canvas.setFont("Helvetica-Bold", 40)
    canvas.drawString(MARGIN, PAGE_HEIGHT - 148, "Annual Report")
    canvas.setFont("Helvetica-Bold", 40)
    canvas.drawString(MARGIN, PAGE_HEIGHT - 192, "2024")
    canvas.setFillColor(INK)
    lines = (
        ("Times-Roman", 14, "For the fiscal year ended June 30, 2024"),
        ("Times-Roman", 14, "with comparative figures for fiscal years 2023 and 2022"),
        ("Helvetica", 10, ""),
        ("Helvetica", 10, "Port Ansel, Orrin County"),
        ("Helvetica", 10, "Accepted by the Board of Directors on December 10, 2024"),
        ("Helvetica", 10, "Publication TV-24-07"),
        ("Helvetica", 10, ""),
        ("Helvetica-Oblique", 9, "The district, its people and every figure in this report are invented."),
    )
    for index, (font, size, line) in enumerate(lines):
        canvas.setFont(font, size)
        canvas.drawString(MARGIN, PAGE_HEIGHT * 0.36 - index * 21, line)
    canvas.bookmarkPage("cover")
    canvas.addOutlineEntry("Cover", "cover", level=0)


def about_this_report() -> Page:
    return Page(
        "About this report",
        [
            Heading(1, "About this report"),
            *prose(
                "This is the ninety-third annual report of the Tamarack Valley Water District. It covers the "
                "fiscal year that began on July 1, 2023 and ended on June 30, 2024. Unless a sentence says "
                "otherwise, a year named alone is a fiscal year, so that 2024 means the twelve months ended June "
                "30, 2024. Water quality results are the exception: the State requires them by calendar year, and "
                "the ones printed here are those of calendar year 2023, the last complete one.",
                "The report has three readers in mind. Customers will find what the district did with their money in "
                "the chapters on supply, treatment, distribution and rates. Holders of the district's bonds will find "
                "the audited statements and the notes that belong to them from page 21 on. Staff of the county and of "
                "the regulators will find the ten-year tables they ask for each winter in Appendix A, and the "
                "definitions behind those tables in Appendix B.",
            ),
            Heading(2, "What changed since the last report"),
            *prose(
                "Three presentations are new. Water losses are now stated as non-revenue water rather than as "
                "unaccounted-for water, which lets them be compared with those of other utilities. Breaks are "
                "counted by the material of the main and no longer by the age of the main. Finally, energy use has "
                "a chapter of its own; it was a paragraph of the operations chapter through 2022 and a page of it "
                "in 2023.",
                "Two figures printed in last year's report have been corrected. Purchased water in 2022 was given as "
                "1,063 million gallons through a transposed digit; the right figure is 1,036. The population served in "
                "2021 was restated from 181,100 to 180,400 after the county revised its estimate of vacant homes.",
            ),
            Heading(2, "Where to write"),
            *prose(
                "Comments on this report reach the Office of the Board Secretary, 400 Weir Street, Port Ansel. "
                "Meetings of the Board are held in the Ledger Room at the same address on the second Tuesday of "
                "each month at 6:30 in the evening, except in August, when the Board does not meet. Printed copies "
                "cost nothing to customers and $12 to others; 650 copies of this edition were printed on uncoated "
                "recycled paper.",
                "The photographs of earlier editions have been left out to keep the printed report under fifty pages. "
                "Maps of the service area, the five pressure zones and the director divisions are kept at the counter.",
            ),
            Heading(2, "How it was made"),
            *prose(
                "The text was written by the people who run the things that it describes, between August and "
                "October 2024, and edited by the Board Secretary. Figures were drawn from the ledgers on September "
                "20 and from the control system on July 8; each was checked by a second person, who signed for it. "
                "The rule for what goes in is an old one of the district's: a number that got worse is printed in "
                "the same place, and in the same size, as in the years when it got better.",
                "Preparing the report took about 540 hours of staff time and cost $21,300 for printing and "
                "postage, $2,900 less than the last one. It was sent to 212 libraries, offices and bondholders; "
                "the summary of eight pages that goes to every customer was sent with the bills of November. A "
                "version that can be read aloud by a machine is on the district's pages.",
            ),
            Heading(2, "A caution"),
            *prose(
                "Statements about the years after 2024, among them the dates by which capital projects should be "
                "done and the rates intended for later years, are plans and not promises. They rest on the "
                "assumptions in Appendix B, and the Board may change them at any public meeting.",
            ),
        ],
    )


def table_of_contents(contents: list[Flowable]) -> Page:
    return Page("Contents", [Heading(1, "Contents"), *contents])


def list_of_tables(tables: list[Flowable]) -> Page:
    return Page(
        "Tables and conventions",
        [
            Heading(1, "Tables and conventions"),
            *tables,
            Heading(2, "Conventions"),
            *prose(
                "Money is in thousands of dollars where a table says so and in dollars where it does not. Brackets "
                "mark a negative amount and a dash marks nothing. Totals are sums of the rounded figures above "
                "them. One million gallons (MG) is 3.07 acre-feet or 1,337 hundred cubic feet (ccf); mgd is "
                "million gallons a day.",
            ),
        ],
    )


def letter_from_the_chair() -> Page:
    return Page(
        "Letter from the chair",
        [
            Heading(1, "Letter from the chair"),
            *prose(
                "To our customers and bondholders:",
                "Last year's letter was about drought: in November 2022 Lake Ansel had sunk to barely half of its "
                "capacity, and a Stage 2 declaration was in force. This year I can write about what the district "
                "does when the rain does come. The gauge at Weir Street caught 33.7 inches<super>1</super> between "
                f"July and June, the most since 2017, and combined storage closed the year at {storage(11):,} "
                f"acre-feet, which is {share(storage(11), CAPACITY)} percent of what our three reservoirs can hold. "
                "The Board ended the last of the drought measures on February 13, 2024.",
                "A full reservoir does not mend a pipe. In the small hours of March 2, a transmission main laid in "
                "1952 failed under the east end of Weir Street, within sight of our own offices. Nobody was hurt. "
                "The crews who closed eleven valves in the dark, and the customers of Dunmore Bench who carried "
                "water up three flights of stairs for a day and a half, have my thanks and that of my colleagues. "
                "The chapter on emergencies tells the story without ornament, including what we did badly.",
                f"The year's finances were sound. Operating revenue reached {millions(operating_revenue(2024))}, "
                f"against {millions(operating_revenue(2023))} the year before; with property taxes, investment "
                f"earnings and rents, total revenue before contributions came to {millions(total_revenue(2024))}. "
                f"Net position rose by {millions(change_in_net_position(2024))}. We spent "
                f"{millions(-flow('Acquisition of capital assets', 2024))} on the system, more than in any earlier "
                "year, and we did so without selling a bond. The budget had foreseen $38.6 million; the shortfall "
                "is almost wholly the spillway at Sill Creek, where the permit came five months later than the "
                "engineers had been told to expect.",
                "Customers used less. Sales to single-family homes fell for the third year running, to "
                f"{CONSUMPTION['Single-family residential'][4]:,} million gallons, although there are "
                f"{ACCOUNTS['Single-family residential'][4] - ACCOUNTS['Single-family residential'][3]} more such "
                "homes. This is what the State asks of us and what we ask of you, and it has a price: a utility "
                "whose costs are mostly fixed must spread them over fewer gallons. The Board adopted, by five "
                f"votes to two, rates that add ${monthly_bill(10, 3) - monthly_bill(10, 2):.2f} a month to a "
                "typical bill from July 1, 2024. I voted for them. Directors Arkwright-Li and Prewittson did not, "
                "and their reasons, which were serious ones, are in the minutes of May 14.",
                "Three tasks stand before us. We must finish the ozone system at Hollis Creek, which will be the "
                "largest change in treatment since the plant opened. We must remove PFAS from the Dunmore wells, "
                "of which three have stood idle since October. And we must decide, by the summer of 2026, whether "
                "a second connection to the Norvale Aqueduct is worth the cost of pumping.",
                "Among many debts of gratitude I name one. Wendeline Achterberg, who ran our stores, died on May "
                "3, 2024. She could find any of 7,400 parts without the list, and on the night of the break she "
                "had the bridging collars on a truck before the engineers had agreed on their size. The yard on "
                "Basalt Road now carries her name.",
                "I have served on this Board for ten years and as its chair for four. I will not stand again in "
                "November 2026. It has been good work in good company.",
            ),
            Paragraph("<i>Marguerite Oyelund</i>, Chair of the Board, Division 3", BODY),
        ],
        footnotes=("Inches of rain are for the gauge at Weir Street; the ten-year record is in Table A-1.",),
    )


def at_a_glance() -> Page:
    facts = {
        "Population served": ("184,500", "186,400"),
        "Active accounts": (f"{total(ACCOUNTS, 2023):,}", f"{total(ACCOUNTS, 2024):,}"),
        "Service area, square miles": ("214", "214"),
        "Miles of water main": (f"{MILES_OF_MAIN[8]:,.1f}", f"{MILES:,.1f}"),
        "Water supplied, million gallons": (f"{total(SUPPLY, 2023):,}", f"{total(SUPPLY, 2024):,}"),
        "Water sold, million gallons": (f"{total(CONSUMPTION, 2023):,}", f"{total(CONSUMPTION, 2024):,}"),
        "Non-revenue water, percent of supply": tuple(
            share(non_revenue_water(y), total(SUPPLY, y)) for y in (2023, 2024)
        ),
        "Storage on June 30, acre-feet": (f"{STORAGE_2023[11]:,}", f"{storage(11):,}"),
        "Main breaks": (str(breaks(2023)), str(breaks(2024))),
        "Employees": tuple(str(sum(column[i] for column in STAFF.values())) for i in (1, 2)),
        "Operating revenue, thousands": tuple(amount(operating_revenue(y)) for y in (2023, 2024)),
        "Change in net position, thousands": tuple(amount(change_in_net_position(y)) for y in (2023, 2024)),
        "Debt service coverage, times": tuple(f"{coverage(y):.2f}" for y in (2023, 2024)),
        "Typical monthly bill, 10 ccf": (f"${monthly_bill(10, 1):.2f}", f"${monthly_bill(10, 2):.2f}"),
    }
    return Page(
        "The district at a glance",
        [
            Heading(1, "The district at a glance"),
            *prose(
                "The district was formed by a vote of 1,911 to 804 on April 21, 1931,<super>1</super> after three "
                "summers in which the wells of Port Ansel ran dry. Its first work, a crib dam on Tamarack Creek, "
                "washed out in 1934; Ansel Dam, which replaced it, was closed in 1938 and still holds more than "
                "half of the district's stored water. Upper Tamarack followed in 1956 and Sill Creek in 1979.",
                "Today the district serves the city of Port Ansel, the towns of Hollis Creek and Quarry Hill, and "
                "the unincorporated communities of Dunmore Bench and Larkspur Flats. It sells water wholesale to "
                "three neighbors that have distribution systems of their own: the Town of Brindle Fork, Sable Mesa "
                "Community Services and the Copperline Mutual Water Association. It treats no sewage and makes no "
                "hydroelectric power. The ground rises from 212 feet above the sea at the Port Ansel wharves to "
                "1,740 feet at the last house in Dunmore Bench, which is why the system has five pressure zones "
                "and spends more on pumping than most.",
            ),
            Table(
                "1",
                "The district in two years",
                "fiscal years; June 30 where a date is needed",
                ("Measure", "2023", "2024"),
                [Row((name, *pair)) for name, pair in facts.items()],
                "lrr",
            ),
            Heading(2, "Five things to know about 2024"),
            *items(
                "1. No drinking water limit was exceeded, and no sample at either treatment plant came within a "
                "fifth of a limit except total trihalomethanes at the Hollis Creek Plant.",
                f"2. Main breaks fell to {breaks(2024)}, the fewest since the district began to count them in 1988.",
                "3. The Quarry Hill tank entered service on May 22, 2024, eleven days early and within its budget.",
                "4. Purchases from the Norvale Regional Aqueduct Authority fell by half, to "
                f"{SUPPLY['Purchased from Norvale Aqueduct'][4]} million gallons, all of it between July and November.",
                "5. The district's rating on its senior bonds was raised one step, to AA, on February 27, 2024.",
            ),
        ],
        footnotes=(
            "The count was challenged by the Port Ansel Ice Company, which had sold water by the barrel, and "
            "upheld in January 1932. The company's ice house was the district's first pipe yard.",
        ),
    )


def governance_board() -> Page:
    directors = (
        ("1", "Ingrid Vasquell", "Port Ansel, harbor", "2018", "Nov 2026", "Finance"),
        ("2", "Tobias Renwick-Hale", "Port Ansel, north", "2014", "Nov 2026", "Engineering (chair)"),
        ("3", "Marguerite Oyelund", "Port Ansel, south", "2014", "Nov 2026", "all, by office"),
        ("4", "Desmond Arkwright-Li", "Hollis Creek", "2020", "Nov 2024", "Finance (chair)"),
        ("5", "Philippa Tarrow", "Quarry Hill", "2022", "Nov 2026", "Customers (chair)"),
        ("6", "Anselm Corrigane", "Larkspur Flats", "2016", "Nov 2024", "Engineering"),
        ("7", "Yolanda Prewittson", "Dunmore Bench", "2020", "Nov 2024", "Customers"),
    )
    meetings = (
        ("Ingrid Vasquell", "11", "11", "6", "6", "$4,080"),
        ("Tobias Renwick-Hale", "11", "10", "9", "9", "$4,560"),
        ("Marguerite Oyelund", "11", "11", "24", "21", "$7,680"),
        ("Desmond Arkwright-Li", "11", "11", "6", "6", "$4,080"),
        ("Philippa Tarrow", "11", "9", "9", "7", "$3,840"),
        ("Anselm Corrigane", "11", "8", "9", "6", "$3,360"),
        ("Yolanda Prewittson", "11", "11", "9", "9", "$4,800"),
    )
    return Page(
        "Governance",
        [
            Heading(1, "Governance"),
            Heading(2, "The Board of Directors"),
            *prose(
                "Seven directors govern the district. Each is elected by the voters of one division for four "
                "years, in November of even years, and must live in the division. The divisions were last redrawn "
                "on February 8, 2022, to follow the census; the change moved some 6,100 residents of Port Ansel "
                "from Division 1 to Division 2 and left the other five as they were. The Board elects a chair and "
                "a vice chair from among its members each December. Director Oyelund has been chair since December "
                "2020; Director Renwick-Hale was chosen vice chair in December 2022.",
            ),
            Table(
                "2",
                "Directors on June 30, 2024",
                "",
                ("Division", "Director", "Area", "First elected", "Term ends", "Committee"),
                [Row(director) for director in directors],
                "cllcll",
            ),
            *prose(
                "Philippa Tarrow, who won the Quarry Hill seat in November 2022 by 47 votes, is the newest member. "
                "She followed Everard Mossbank, who had held it since 1998 and did not run again. There was no "
                "vacancy during the year.",
                "Directors are paid $240 for each day of meetings, to a limit of six days a month; special "
                "meetings are unpaid and there is no pension.<super>1</super> They may join the employees' health "
                "plan at their own cost; two do. The payment was last raised in 2019, from $215. The Board met "
                "eleven times in regular session, and twice in special session, on March 3, 2024 about the main "
                "break and on May 30, 2024 to adopt the budget.",
            ),
            Table(
                "3",
                "Attendance and pay of directors, fiscal year 2024",
                "number of meetings; pay in dollars",
                ("Director", "Regular\nmeetings", "Attended", "Committee\nmeetings", "Attended", "Pay"),
                [Row(line) for line in meetings],
                "lrrrrr",
            ),
            Heading(2, "Committees"),
            *prose(
                "The Finance Committee reviews the budget, the audit and investments. The Engineering and "
                "Operations Committee reviews contracts above $250,000 before they reach the Board. The Customers "
                "Committee hears billing appeals: 38 in 2024, of which 14 were granted in full, 9 in part and 15 "
                "denied. In 2023 there were 51 appeals, in a year of estimated meter readings.",
            ),
        ],
        footnotes=(
            "Travel is repaid at the federal rate for mileage and came to $3,914 for all seven directors in 2024. "
            "One director, for Division 5, asks for none.",
        ),
    )


def governance_management() -> Page:
    managers = (
        ("General Manager", "Halvard Quennell", "2017", "Board"),
        ("Chief Financial Officer", "Bettina Strand-Okafor", "2019", "General Manager"),
        ("Chief Engineer", "Rufus Delacombe", "2011", "General Manager"),
        ("Director of Operations", "Noor Ellingsby", "2021", "General Manager"),
        ("Water Quality Manager", "Simone Haverty-Ruiz", "2015", "Director of Operations"),
        ("Customer Service Manager", "Gideon Plaskett", "2022", "Chief Financial Officer"),
        ("Human Resources Manager", "Lionel Abascombe", "2020", "General Manager"),
        ("Board Secretary", "Orla Finchamp", "2008", "Board"),
    )
    daily_expense = (operating_expense(2024) - flow("Depreciation and amortization", 2024)) / 365
    reserve_days = round((cash(2024) + balance("Investments", 2024)) / daily_expense)
    return Page(
        "Governance",
        [
            Heading(2, "Management"),
            *prose(
                "The Board appoints two people, the General Manager and the Board Secretary, and the General "
                "Manager appoints the rest. Halvard Quennell, a civil engineer, came to the district in 2004 as a "
                "project engineer and has been General Manager since 2017. His contract was renewed in June 2023 "
                "for four years. Noor Ellingsby, who directs operations, took command of the response to the main "
                "break of March 2 and to the ice storm of January.",
            ),
            Table(
                "4",
                "Managers on June 30, 2024",
                "",
                ("Office", "Name", "In office since", "Reports to"),
                [Row(line) for line in managers],
                "llcl",
            ),
            Heading(2, "Policies the Board reviewed in 2024"),
            *prose(
                "The <b>reserve policy</b>, first adopted in 2009, requires unrestricted cash and investments "
                "worth at least 240 days of operating expense before depreciation; the Board raised the "
                "requirement from 180 days on September 12, 2023. On June 30, 2024 the district held "
                f"{reserve_days} "
                "days.",
                "The <b>debt policy</b> keeps net revenue at no less than 1.75 times debt service, a stricter line "
                "than the 1.25 times promised to bondholders. It forbids variable-rate debt above a tenth of the "
                "total; the district has none.",
                "The <b>purchasing policy</b> now lets the General Manager sign contracts of up to $250,000, "
                "instead of $150,000, and asks for three quotations from $25,000 upward. The change followed a "
                "study that found 71 percent of all contracts brought to the Board between 2019 and 2022 to be "
                "smaller than the new limit, and not one of them to have been refused.",
                "A new <b>policy on records and artificial assistants</b>, adopted on April 9, 2024, says that no "
                "text made by a machine is sent to a customer before an employee has read it, and that machines do "
                "not set rates, dosages or work orders.",
            ),
            Heading(2, "Ethics, audit and open government"),
            *prose(
                "All directors and 31 designated employees file yearly statements of economic interests with the "
                "county clerk. In 2024 one director left the room for a vote: Director Corrigane, on a lease of "
                "land next to property of his family. The district received 164 requests for records, answered 149 "
                "of them within ten days, and refused four in part, to protect the security of facilities.",
                "The financial statements are audited each year by an independent firm chosen for five years. The "
                "present firm was chosen in 2022 from among six that answered the request for proposals, and 2024 "
                "is its third audit. Its letter is reproduced on page 21. The firm does no other work for the "
                "district. The district's legal counsel, Pelham Oduya Stroud, is retained at a fixed $18,400 a "
                "month; litigation is billed apart and came to $212,000 in 2024, most of it in the Copperline "
                "matter described in Note 9.",
            ),
            Heading(2, "Strategic plan"),
            *prose(
                "The strategic plan of 2021 set eighteen measures for 2026. Eleven are met, five are on course and "
                "two are behind: the share of mains renewed each year, which should be 0.9 percent and was 0.6, "
                "and the time taken to answer the telephone, treated on page 14.",
            ),
        ],
    )


def supply_sources() -> Page:
    reservoirs = (
        ("Lake Ansel", "Ansel Dam", "Tamarack Creek", "1938", "143", "48,200", "1,310", "1,085"),
        ("Upper Tamarack", "Brandreth Dam", "Tamarack Creek", "1956", "176", "31,500", "702", "1,490"),
        ("Sill Creek", "Sill Creek Dam", "Sill Creek", "1979", "98", "12,850", "388", "1,212"),
    )
    wells = (
        ("Hollis", "9", "9", "340 to 520", "7.4", "1,744", "1,502", "188"),
        ("Dunmore", "6", "3", "610 to 880", "3.6", "858", "603", "301"),
    )
    return Page(
        "Water supply and storage",
        [
            Heading(1, "Water supply and storage"),
            Heading(2, "Three reservoirs"),
            *prose(
                "Four gallons in five begin as rain and snow on the 171 square miles of forest above the "
                "district's reservoirs. The district owns a fifth of that watershed and holds easements over "
                "another tenth; most of the rest is public forest. Water rights date from 1929 for Tamarack Creek "
                "and from 1974 for Sill Creek, and together allow 61,000 acre-feet to be taken in a year. In 2024 "
                "the district took 30,750,<super>1</super> just over half.",
            ),
            Table(
                "5",
                "Reservoirs",
                "height in feet, capacity in acre-feet, area in acres, spillway crest in feet above sea level",
                ("Reservoir", "Dam", "Stream", "Closed", "Height", "Capacity", "Area", "Crest"),
                [Row(line) for line in reservoirs],
                "lllrrrrr",
            ),
            *prose(
                "The State inspects each dam in the spring. Ansel Dam and Brandreth Dam were rated satisfactory. "
                "Sill Creek Dam was rated <i>fair</i> for the second time, because its spillway could not pass the "
                "largest flood now thought possible; until project C-110 is done the district keeps the lake at "
                "least 60 acre-feet below the crest. A survey of the lake floor in 2022 found that silt had taken "
                "3.1 percent of the original capacity of Lake Ansel in 84 years, about half of what the designers "
                "had allowed for.",
            ),
            Heading(2, "Two wellfields"),
            *prose(
                "The Hollis wellfield draws on river gravels and refills quickly: its water table stood 6 feet "
                "higher in June 2024 than a year before. The Dunmore wells go deep into fractured basalt, recover "
                "slowly and cost more to pump. Three of the six, numbers 2, 3 and 5, were shut on October 19, 2023 "
                "when PFOS was found at half of the coming federal limit or more. They stay shut until the "
                "treatment of project C-121 is ready. Wells are used most in late summer, when the reservoirs are "
                "low and demand is high.",
            ),
            Table(
                "6",
                "Wellfields",
                "depth in feet; capacity in million gallons a day; production in million gallons",
                (
                    "Wellfield",
                    "Wells",
                    "In service\nJune 30",
                    "Depth",
                    "Capacity",
                    "Production\n2023",
                    "Production\n2024",
                    "Cost per MG\n(dollars)",
                ),
                [Row(line) for line in wells],
                "lrrcrrrr",
            ),
            Heading(2, "Purchased water"),
            *prose(
                "Under a contract of 1996 the district may buy up to 4.5 mgd from the Norvale Regional Aqueduct "
                "Authority through one connection at Larkspur Flats. The price has two parts: $46,500 a month "
                "whether or not water is taken, and $1,184 for each million gallons. The contract ends on December "
                "31, 2031. Purchases were heaviest in 2022, when they made up 8.0 percent of supply; in 2024 they "
                "were 2.7 percent.",
            ),
        ],
        footnotes=(
            "Of the reservoirs' yield, 2,140 acre-feet were released to keep the streams below the dams alive "
            "and are not part of the 30,750.",
        ),
    )


def supply_storage() -> Page:
    levels = []
    for month, name in enumerate(MONTHS):
        figures = (*(STORAGE[r][month] for r in RESERVOIRS), storage(month))
        cells = (name, *(f"{v:,}" for v in figures), share(storage(month), CAPACITY), f"{STORAGE_2023[month]:,}")
        levels.append(Row((*cells, f"{(storage(month) / STORAGE_2023[month] - 1) * 100:+.1f}")))
    capacity = Row(("Capacity", *(f"{v:,}" for v in RESERVOIRS.values()), f"{CAPACITY:,}", "100.0", "", ""), "total")
    low, high = storage(4), storage(10)
    return Page(
        "Water supply and storage",
        [
            Heading(2, "Storage through the year"),
            *prose(
                f"Combined storage began the year at {STORAGE_2023[11]:,} acre-feet, fell through a warm autumn to "
                f"its low of {low:,} at the end of November and rose to {high:,} at the end of May, within one "
                "percent of full. Both the low and the high were the best since 2019. Lake Ansel spilled for "
                "nineteen days, from May 9 to May 27, 2024, the first spill in five years. Upper Tamarack did not "
                "spill. Sill Creek was held down by hand, as the State requires, and is shown nearly full in May "
                "only because a storm on May 30 filled the margin in one night; it was drawn down again by June 4.",
            ),
            Table(
                "7",
                "Storage at the end of each month, fiscal year 2024",
                "in acre-feet",
                (
                    "Month",
                    "Lake\nAnsel",
                    "Upper\nTamarack",
                    "Sill\nCreek",
                    "All\nthree",
                    "Percent\nof capacity",
                    "A year\nbefore",
                    "Change\n(percent)",
                ),
                [*levels, capacity],
                "lrrrrrrr",
            ),
            BarChart(
                "Combined storage at month end, thousand acre-feet",
                [name.split()[0] for name in MONTHS],
                [storage(month) / 1000 for month in range(12)],
                "{:.1f}",
            ),
            *prose(
                "The rule for the reservoirs is older than the computer that applies it. Between October and "
                "February Lake Ansel must keep 4,000 acre-feet empty to catch floods that would otherwise reach "
                "the lower town; the space is released to storage on March 1 if the snow on the Brandreth ridge "
                "holds less than 14 inches of water. On March 1, 2024 it held 11.2 inches, and the space was "
                "released on time. In 2023, with 19.6 inches, the release waited until April 3.",
                "Evaporation is the largest loss from storage. It took an estimated 5,870 acre-feet in 2024, of "
                "which 3,240 left Lake Ansel. The floating solar panels at Upper Tamarack cover 9 of its 702 acres "
                "and are expected to save some 30 acre-feet a year; they were not built for that, and the figure "
                "is too small to measure. Seepage under Brandreth Dam, read weekly at eleven weirs, averaged 41 "
                "gallons a minute, against 44 in 2023 and an alarm level of 75.<super>1</super>",
                "Algae were treated with copper on two occasions at Lake Ansel, in August and September 2023, and "
                "not at all at the other lakes. Boats have been inspected for mussels since 2012: 3,806 "
                "inspections in 2024 turned away 17 boats and found live mussels on none.",
            ),
        ],
        footnotes=(
            "The alarm level was set in 1994, when the grout under the dam was renewed; before that, seepage of "
            "120 gallons was thought normal.",
        ),
    )


def supply_mix() -> Page:
    surface = [
        sum(SUPPLY[name][i] for name in ("Lake Ansel", "Upper Tamarack Reservoir", "Sill Creek Reservoir"))
        for i in range(5)
    ]
    ground = [SUPPLY["Hollis wellfield"][i] + SUPPLY["Dunmore wellfield"][i] for i in range(5)]
    totals = [total(SUPPLY, year) for year in FIVE_YEARS]
    quarters = (
        ("July to September", "2,046", "1,018", "402", "541", "268", "214", "4,489"),
        ("October to December", "1,212", "742", "228", "398", "131", "127", "2,838"),
        ("January to March", "1,067", "625", "178", "224", "89", "-", "2,183"),
        ("April to June", "1,408", "856", "238", "339", "115", "-", "2,956"),
        ("Year", "5,733", "3,241", "1,046", "1,502", "603", "341", "12,466"),
    )
    return Page(
        "Water supply and storage",
        [
            Heading(2, "Where the water came from"),
            *prose(
                f"The district supplied {totals[4]:,} million gallons in 2024, {percent(totals[4], totals[3])} less "
                f"than in 2023 and the least in the ten years shown in Appendix A. That is {totals[4] / 366:.1f} "
                "mgd on average over the 366 days of the year. The highest day was July 18, 2023, with 53.9 "
                "million gallons; the lowest was February 4, 2024, a wet Sunday, with 21.7.",
            ),
            Table(
                "8",
                "Water supplied by source, five years",
                "in million gallons",
                ("Source", *map(str, FIVE_YEARS)),
                [
                    *rows(SUPPLY, "All sources"),
                    Row(
                        (
                            "Surface water, percent",
                            *(share(part, whole) for part, whole in zip(surface, totals, strict=True)),
                        )
                    ),
                    Row(
                        (
                            "Groundwater, percent",
                            *(share(part, whole) for part, whole in zip(ground, totals, strict=True)),
                        )
                    ),
                ],
                "lrrrrr",
            ),
            *prose(
                "The mix follows the weather. In 2022, the driest of the five years, wells and purchases together "
                "gave nearly three gallons in ten; in 2024 it was two. Groundwater fell by 497 million gallons in "
                "a single year, partly by choice, so that the aquifers could recover, and partly because half of "
                "the Dunmore wells were idle. Had they run as in 2022, Norvale water would not have been needed "
                "after August.",
            ),
            Table(
                "9",
                "Water supplied by quarter, fiscal year 2024",
                "in million gallons",
                (
                    "Quarter",
                    "Lake\nAnsel",
                    "Upper\nTamarack",
                    "Sill\nCreek",
                    "Hollis\nwells",
                    "Dunmore\nwells",
                    "Norvale",
                    "All",
                ),
                [Row(line, "total" if line[0] == "Year" else "plain") for line in quarters],
                "lrrrrrrr",
            ),
            Heading(2, "How dependable is it?"),
            *prose(
                "The supply study of 2020 put the firm yield of the system, meaning what it could deliver through "
                "a repeat of the drought of 1987 to 1992, at 42.5 mgd. Average demand is now 34.1 mgd, so that the "
                "margin is about a fifth. The margin is not spread evenly: Dunmore Bench depends on one pump "
                "station and on wells half of which are shut, and Larkspur Flats lies at the end of a single "
                "24-inch main. The second Norvale interconnection would serve both, and that, rather than volume, "
                "is the case for it.",
                "The study assumed 11 percent less spring runoff by 2045. A revision, with the State's newer "
                "climate figures, is under way and will be presented in March 2025. Among the options it weighs "
                "are raising Sill Creek Dam by nine feet, storing winter water in the Hollis gravels and recycled "
                "water for the golf courses and cemeteries of Port Ansel, which used 118 million gallons in 2024.",
                "The district bought no water rights and sold none. A request by Brindle Fork to raise its "
                "wholesale allotment from 1.1 to 1.4 mgd was received on May 6, 2024 and will be decided after the "
                "revision is published.",
            ),
        ],
    )


def treatment_plants() -> Page:
    plants = (
        ("Placed in service", "June 1964", "April 1987"),
        ("Last expanded", "2009", "2003"),
        ("Source", "Lake Ansel, Upper Tamarack", "Sill Creek, Upper Tamarack"),
        ("Rated capacity, mgd", "42.0", "38.0"),
        ("Treated in 2024, million gallons", "5,926", "4,094"),
        ("Treated in 2023, million gallons", "5,511", "3,868"),
        ("Highest day of 2024, mgd", "27.8", "19.6"),
        ("Average raw water turbidity, NTU", "3.4", "5.1"),
        ("Average filtered turbidity, NTU", "0.05", "0.06"),
        ("Filters", "16, dual media", "12, deep-bed anthracite"),
        ("Disinfectant", "chlorine, then chloramine", "chlorine; ozone from Nov 2024"),
        ("Operators", "19", "17"),
        (
            "Electricity, MWh",
            f"{ENERGY['Ansel Treatment Plant'][4]:,}",
            f"{ENERGY['Hollis Creek Treatment Plant'][4]:,}",
        ),
        ("Cost per million gallons treated, dollars", "1,041", "1,138"),
        ("Hours out of service, planned", "64", "212"),
        ("Hours out of service, unplanned", "7", "3"),
    )
    chemicals = (
        ("Alum", "tons", "1,184", "1,152", "870", "846", "$412"),
        ("Liquid chlorine", "tons", "143", "139", "118", "112", "$655"),
        ("Aqueous ammonia", "tons", "61", "60", "-", "-", "$298"),
        ("Lime", "tons", "402", "415", "377", "369", "$241"),
        ("Zinc orthophosphate", "tons", "88", "84", "72", "70", "$1,310"),
        ("Cationic polymer", "tons", "22", "24", "19", "19", "$2,870"),
        ("Copper sulfate (lakes)", "tons", "9", "14", "2", "-", "$3,050"),
        ("Fluorosilicic acid", "tons", "97", "95", "70", "68", "$534"),
    )
    return Page(
        "Treatment",
        [
            Heading(1, "Treatment plants"),
            *prose(
                "Two plants make almost all of the district's drinking water. They are much alike in size and "
                "process - settling, filters, chlorine - and differ in age, in the water they receive and, from "
                "November 2024, in the use of ozone. Water from the wells needs only chlorine and is not counted "
                "here.",
            ),
            Table(
                "10",
                "The two treatment plants",
                "fiscal year 2024 unless a line says otherwise",
                ("", "Ansel Plant", "Hollis Creek Plant"),
                [Row(line) for line in plants],
                "lrr",
            ),
            *prose(
                "The <b>Ansel Plant</b> stands below Ansel Dam and feeds Port Ansel and Quarry Hill by gravity. "
                "Its sixteen filters are being rebuilt two at a time under project C-101; seven were done on June "
                "30, 2024, and the effect can be read off the turbidity meters, which show 0.03 NTU behind the new "
                "filters and 0.07 behind the old. One unplanned stop, of seven hours on January 14, was caused by "
                "ice on the power line; the standby generator started but its transfer switch did not close.",
                "The <b>Hollis Creek Plant</b> receives the warmer and more colored water of Sill Creek, which is "
                "why trihalomethanes are higher there. Ozone will take over the first step of disinfection and cut "
                "them by about 40 percent, going by a pilot of fourteen months. Most of its 212 planned hours out "
                "of service were needed to cut the ozone contactor into the main channel, between January 22 and "
                "January 29, when the Ansel Plant carried the whole system.",
            ),
            Table(
                "11",
                "Chemicals used at the plants",
                "in tons; price in dollars a ton, average of fiscal year 2024",
                ("Chemical", "Unit", "Ansel\n2023", "Ansel\n2024", "Hollis Creek\n2023", "Hollis Creek\n2024", "Price"),
                [Row(line) for line in chemicals],
                "lcrrrrr",
            ),
        ],
    )


def treatment_performance() -> Page:
    months = (
        ("July 2023", "23.6", "0.05", "1.9", "16.4", "0.07", "2.8"),
        ("August", "22.9", "0.05", "2.0", "15.8", "0.07", "2.9"),
        ("September", "20.3", "0.06", "2.0", "13.9", "0.08", "2.7"),
        ("October", "15.9", "0.05", "1.8", "11.4", "0.06", "2.4"),
        ("November", "13.4", "0.05", "1.7", "9.2", "0.06", "2.1"),
        ("December", "12.7", "0.06", "1.9", "8.5", "0.06", "2.2"),
        ("January 2024", "13.8", "0.07", "2.3", "6.3", "0.05", "2.3"),
        ("February", "11.9", "0.06", "2.2", "8.6", "0.05", "2.3"),
        ("March", "12.2", "0.05", "2.1", "8.9", "0.06", "2.4"),
        ("April", "13.3", "0.04", "1.9", "9.8", "0.05", "2.5"),
        ("May", "14.9", "0.04", "1.8", "11.3", "0.05", "2.5"),
        ("June", "19.2", "0.04", "1.8", "14.1", "0.06", "2.6"),
    )
    return Page(
        "Treatment",
        [
            Heading(2, "How the plants performed"),
            Table(
                "12",
                "Plant performance by month, fiscal year 2024",
                "flow in mgd, turbidity in NTU, organic carbon in mg/L; monthly averages",
                (
                    "Month",
                    "Ansel\nflow",
                    "Ansel\nturbidity",
                    "Ansel\ncarbon",
                    "Hollis Creek\nflow",
                    "Hollis Creek\nturbidity",
                    "Hollis Creek\ncarbon",
                ),
                [Row(line) for line in months],
                "lrrrrrr",
            ),
            *prose(
                "The State allows filtered water a turbidity of 0.3 NTU in 95 percent of the four-hourly readings "
                "of a month and 1 NTU at any time. Neither plant passed 0.3 NTU in a single reading, the sixth "
                "year in a row for Ansel and the third for Hollis Creek. The highest reading of the year, 0.24 "
                "NTU, was taken at Hollis Creek on September 4, 2023, in the days after the Bracken Ridge fire, "
                "when rain carried ash into Sill Creek. Operators fed more alum, lowered the flow and drew from "
                "Upper Tamarack until the creek ran clear on September 13.",
                "Both plants remove more of the organic carbon than they must: 46 percent at Ansel and 41 percent "
                "at Hollis Creek, where 35 percent is required of each. The plants returned 312 million gallons of "
                "filter wash water to their inlets after settling. Some 2,940 tons of dried sludge went to a "
                "brickworks, which paid nothing for it but spared the district a landfill fee of $61 a ton.",
            ),
            Heading(2, "The ozone system"),
            *prose(
                "Project C-104 adds two generators of 900 pounds a day each, a contactor of four chambers and a "
                "building to hold them. It was designed in 2019 and 2020, put off for a year in the pandemic, and "
                "begun in October 2021. The contractor finished the building in December 2023 and the contactor in "
                "April 2024. Oxygen will be delivered as a liquid at first; the space for a plant to make it on "
                "site has been left empty because, at the prices of 2024, it would take 19 years to repay. "
                "Start-up is planned for November 2024, and the guarantee runs for two years from then.",
                "Ozone turns a part of any bromide in the water into bromate, which has a limit of its own. "
                "Bromide in Sill Creek is low, 22 ug/L on average, and the pilot made 2.6 ug/L of bromate at most, "
                "against the limit of 10. The plant will be sampled for it every week in the first year.",
            ),
            Heading(2, "People and laboratory"),
            *prose(
                "Each shift has a chief operator with the State's fourth-grade certificate; the district has 14 of "
                "these, two more than in 2023. The laboratory at the Ansel Plant, accredited since 1991, ran "
                "41,370 analyses in 2024 and sent another 1,615 to outside laboratories, mostly for PFAS and for "
                "compounds that taste of earth. It passed 118 of 119 blind tests;<super>1</super> the miss was a "
                "nitrite sample, and the meter has been replaced.",
            ),
        ],
        footnotes=(
            "Blind samples are made up by the State's laboratory and sent out twice a year. The State asks for "
            "90 percent of them to be right.",
        ),
    )


def water_quality() -> Page:
    regulated = (
        ("Arsenic", "ug/L", "10", "0", "1.2", "ND - 1.9", "1.6", "ND - 2.4", "2.8", "1.1 - 4.7"),
        ("Barium", "mg/L", "2", "2", "0.03", "0.02 - 0.04", "0.04", "0.03 - 0.05", "0.08", "0.05 - 0.11"),
        ("Chromium, total", "ug/L", "100", "100", "ND", "ND", "ND", "ND", "3.1", "1.8 - 5.2"),
        ("Fluoride", "mg/L", "4.0", "4.0", "0.70", "0.58 - 0.81", "0.69", "0.55 - 0.84", "0.21", "0.14 - 0.30"),
        ("Nitrate (as N)", "mg/L", "10", "10", "0.4", "0.2 - 0.7", "0.6", "0.3 - 1.1", "3.9", "2.2 - 6.4"),
        ("Nitrite (as N)", "mg/L", "1", "1", "ND", "ND", "0.01", "ND - 0.03", "ND", "ND"),
        ("Selenium", "ug/L", "50", "50", "ND", "ND", "ND", "ND", "2.2", "ND - 3.6"),
        ("Uranium", "ug/L", "30", "0", "0.5", "0.4 - 0.6", "0.7", "0.5 - 0.9", "5.8", "3.1 - 9.7"),
        ("Gross alpha", "pCi/L", "15", "0", "1.1", "ND - 1.8", "1.3", "ND - 2.2", "4.4", "2.6 - 7.0"),
        ("Total trihalomethanes", "ug/L", "80", "none", "38", "24 - 52", "57", "41 - 71", "6", "2 - 11"),
        ("Haloacetic acids (five)", "ug/L", "60", "none", "21", "12 - 33", "29", "17 - 42", "3", "ND - 5"),
        ("Bromate", "ug/L", "10", "0", "ND", "ND", "ND", "ND", "-", "-"),
        ("Chlorine, total", "mg/L", "4.0", "4", "1.8", "0.6 - 2.6", "1.4", "0.4 - 2.3", "0.9", "0.3 - 1.5"),
        ("Atrazine", "ug/L", "3", "3", "ND", "ND", "0.1", "ND - 0.2", "ND", "ND"),
        ("Tetrachloroethylene", "ug/L", "5", "0", "ND", "ND", "ND", "ND", "0.6", "ND - 1.3"),
    )
    aesthetic = (
        ("Chloride", "mg/L", "250", "9", "12", "31"),
        ("Color", "units", "15", "2", "4", "1"),
        ("Hardness (as CaCO3)", "mg/L", "none", "64", "78", "192"),
        ("Iron", "ug/L", "300", "18", "26", "44"),
        ("Manganese", "ug/L", "50", "6", "14", "21"),
        ("pH", "units", "6.5 - 8.5", "7.9", "7.8", "7.6"),
        ("Sodium", "mg/L", "none", "11", "13", "38"),
        ("Sulfate", "mg/L", "250", "14", "17", "52"),
        ("Total dissolved solids", "mg/L", "500", "121", "146", "338"),
    )
    return Page(
        "Water quality",
        [
            Heading(1, "Water quality"),
            *prose(
                "The district tests its water for 163 substances. The table shows those that were found at least "
                "once in calendar year 2023, with bromate added because customers will hear more of it. "
                "<b>Limit</b> is the highest level allowed in drinking water; <b>goal</b> is the level below which "
                "no risk to health is known, and it isn't enforced. ND means not detected.",
            ),
            Table(
                "13",
                "Regulated substances, calendar year 2023",
                "average and range of the samples; trihalomethanes and haloacetic acids: highest running yearly "
                "average and range",
                (
                    "Substance",
                    "Unit",
                    "Limit",
                    "Goal",
                    "Ansel\naverage",
                    "Ansel\nrange",
                    "Hollis Crk\naverage",
                    "Hollis Crk\nrange",
                    "Wells\naverage",
                    "Wells\nrange",
                ),
                [Row(line) for line in regulated],
                "lcrrrrrrrr",
                size=7.6,
            ),
            *notes(
                "The limit for chlorine is a yearly average of the whole system, and the samples come from the "
                "mains rather than the plants. Uranium, gross alpha and the organic chemicals are sampled every "
                "third year; the results shown are of 2022 for the plants and of 2023 for the wells.",
            ),
            *prose(
                "No limit was exceeded. The nearest approach was a sample of 71 ug/L of trihalomethanes, taken on "
                "August 21, 2023 at the end of a main on Quarry Hill Road served from the Hollis Creek Plant; the "
                "limit applies to the average of four quarters, which was 57. Nitrate in Hollis well number 7 has "
                "crept up for nine years. At 6.4 mg/L it is sampled each month instead of each year, and the well "
                "will be blended or shut if it reaches 8.",
            ),
            Table(
                "14",
                "Substances that affect taste and look, calendar year 2023",
                "averages",
                ("Substance", "Unit", "Recommended\nlimit", "Ansel\nPlant", "Hollis Creek\nPlant", "Wells"),
                [Row(line) for line in aesthetic],
                "lcrrrr",
            ),
            *prose(
                "Customers made 286 complaints about the water itself, down from 341. Color led with 117, most of "
                "them in March after the Weir Street break had stirred up the mains; taste and odor followed with "
                "92, low pressure with 51 and milky water, which is air, with 26.",
            ),
        ],
    )


def water_quality_lead_and_pfas() -> Page:
    lead = (
        ("2017", "60", "3.1", "1", "0.41", "0"),
        ("2020", "60", "2.6", "0", "0.38", "0"),
        ("2023", "104", "2.2", "1", "0.33", "0"),
    )
    pfas = (
        ("Dunmore 1", "1.1", "0.8", "4.0", "yes", "4"),
        ("Dunmore 2", "2.4", "3.3", "4.0", "no", "6"),
        ("Dunmore 3", "2.9", "3.8", "4.0", "no", "6"),
        ("Dunmore 4", "ND", "ND", "4.0", "yes", "4"),
        ("Dunmore 5", "1.9", "2.1", "4.0", "no", "6"),
        ("Dunmore 6", "0.6", "1.0", "4.0", "yes", "4"),
        ("Hollis wells, all nine", "ND", "ND", "4.0", "yes", "18"),
        ("Ansel Plant", "ND", "ND", "4.0", "yes", "4"),
        ("Hollis Creek Plant", "ND", "0.7", "4.0", "yes", "4"),
    )
    return Page(
        "Water quality",
        [
            Heading(2, "Lead and copper"),
            *prose(
                "Lead does not come from the lakes but from pipes and taps. Every third year the district asks the "
                "owners of the homes most at risk for a sample of water that has stood overnight. In the summer of "
                "2023 it took 104 such samples, more than the 60 required, because the inventory of service lines "
                "had turned up two streets in Port Ansel, Cooper Row and Tallow Lane, where lead connections may "
                "have been laid before 1934.",
            ),
            Table(
                "15",
                "Lead and copper at customers' taps",
                "action levels: lead 15 ug/L, copper 1.3 mg/L, for the 90th percentile",
                (
                    "Year",
                    "Homes\nsampled",
                    "Lead, 90th\npercentile, ug/L",
                    "Homes over\n15 ug/L",
                    "Copper, 90th\npercentile, mg/L",
                    "Homes over\n1.3 mg/L",
                ),
                [Row(line) for line in lead],
                "crrrrr",
            ),
            *prose(
                "The one home over the lead level, at 19 ug/L, had a brass valve of 1926, which the owner has "
                "replaced; a second sample showed 1.4. The inventory, due on October 16, 2024, lists 61,184 "
                "service lines. None is known to be lead, 412 are galvanized iron that must be treated as if they "
                "were, and 2,906 are of unknown material, all of them on the customers' side of the meter. The "
                "district will dig up or look into 600 of the unknown lines a year.",
            ),
            Heading(2, "PFAS"),
            *prose(
                "The federal limits of April 10, 2024 allow 4.0 parts in a trillion of either PFOA or PFOS, to be "
                "met by 2029. The district did not wait for them. It has sampled every source since 2021 and, on "
                "October 10, 2023, the Board told staff to shut any well in which either compound reached half of "
                "the proposed limit. Dunmore wells 2, 3 and 5 were shut nine days later.",
            ),
            Table(
                "16",
                "PFOA and PFOS in the sources, fiscal year 2024",
                "average of the samples, in parts in a trillion (ng/L)",
                ("Source", "PFOA", "PFOS", "Coming\nlimit", "In service\nJune 30", "Samples"),
                [Row(line) for line in pfas],
                "lrrrcr",
            ),
            *prose(
                "The likely origin is foam used at the county's fire training ground on Basalt Road between 1971 "
                "and 2003. Orrin County has agreed to share the cost of the inquiry, though not yet that of the "
                "treatment. Project C-121 will pass the water of all six wells through granular carbon, in eight "
                "vessels; resins were tried for seven months in 2023 and did as well, but at the Dunmore wells' "
                "hardness they had to be replaced more often. The yearly cost of running the treatment is put at "
                "$780,000, most of it for fresh carbon.",
                "The district has joined two class settlements with makers of the compounds. It expects $6.1 "
                "million from them over ten years, none of which had arrived on June 30, 2024 or is recorded in "
                "the financial statements.",
            ),
            Heading(2, "Other things we look for"),
            *prose(
                "Of 1,944 samples for coliform bacteria in calendar year 2023, five were positive and none "
                "contained E. coli; the worst month, September, had three positives in 162 samples, or 1.9 "
                "percent, where 5 percent is allowed. Cryptosporidium was found in one of 24 samples of raw water, "
                "at 0.1 oocysts per liter. Lithium, for which there is no limit, was found in the Dunmore wells at "
                "14 to 22 ug/L. Microplastics will be looked for from 2025.",
            ),
        ],
    )


def distribution() -> Page:
    mains = []
    for name, (miles, counts) in MAINS.items():
        cells = (name, f"{miles:,.1f}", share(miles, MILES), *map(str, counts), f"{counts[4] / miles * 100:.1f}")
        mains.append(Row(cells))
    sums = [breaks(year) for year in FIVE_YEARS]
    mains.append(Row(("All mains", f"{MILES:,.1f}", "100.0", *map(str, sums), f"{sums[4] / MILES * 100:.1f}"), "total"))
    ages = (
        ("before 1940", "71.4", "58.0", "9.2", "-", "4.2", "-"),
        ("1940 to 1959", "142.9", "104.7", "21.6", "-", "16.6", "-"),
        ("1960 to 1979", "268.8", "24.9", "65.6", "151.5", "23.3", "3.5"),
        ("1980 to 1999", "279.0", "-", "-", "201.2", "11.8", "66.0"),
        ("2000 to 2024", "280.5", "-", "-", "115.6", "5.3", "159.6"),
        ("All", "1,042.6", "187.6", "96.4", "468.3", "61.2", "229.1"),
    )
    return Page(
        "Distribution",
        [
            Heading(1, "The distribution network"),
            *prose(
                f"On June 30, 2024 the district owned {MILES:,.1f} miles of water main, 3.8 more than a year "
                "before. Developers built and handed over 4.9 miles, the district laid 6.3 to replace 7.4 that it "
                "abandoned. Mains of 24 inches and more, 88.6 miles in all, carry the water from the plants; the "
                "rest, mostly of 6 and 8 inches, run under the streets. There are 9,312 hydrants<super>1</super> "
                "and 21,840 valves, of which 20,977 could be found and turned when the crews last came by.",
            ),
            Table(
                "17",
                "Mains by material and breaks by year",
                "miles on June 30, 2024; breaks in fiscal years; last column: breaks in 2024 per 100 miles",
                ("Material", "Miles", "Percent", *map(str, FIVE_YEARS), "Per 100\nmiles"),
                mains,
                "lrrrrrrrr",
            ),
            *prose(
                f"There were {sums[4]} breaks, {sums[3] - sums[4]} fewer than in 2023. Cast iron is less than a "
                f"fifth of the network and has {share(MAINS['Cast iron'][1][4], sums[4])} percent of the breaks; in "
                "proportion, the breaks of welded steel and PVC fell most. Asbestos cement, laid in Larkspur Flats "
                "in the sixties, now breaks more often by the mile than cast iron does, and phase 5 of main "
                "renewal, to be planned in 2025, will turn to it. A break took the crews 5 hours and 40 minutes to "
                "mend on average, from the first call to the opening of the last valve, and put 31 customers out "
                "of water. The longest, on Weir Street, is described on page 33.",
            ),
            Table(
                "18",
                "Mains by material and period",
                "miles on June 30, 2024; plastic is PVC and HDPE together",
                ("Laid", "All", "Cast iron", "Asbestos cement", "Ductile iron", "Welded steel", "Plastic"),
                [Row(line, "total" if line[0] == "All" else "plain") for line in ages],
                "lrrrrrr",
            ),
            Heading(2, "Finding leaks before they surface"),
            *prose(
                "Two crews walked 402 miles of main with listening sticks and correlators and found 96 leaks, "
                "running at an estimated 610 gallons a minute together. On the transmission mains, a tethered "
                "camera was drawn through 5.2 miles of the Weir Street and Harbor lines in the fall of 2023. It "
                "passed within 300 feet of the pipe that broke in March, but did not enter it, because a valve of "
                "1952 could not be opened far enough.",
                "Advanced meters, now on 41,200 accounts, report each hour. They let customers be told of 3,455 "
                "leaks behind their own meters, usually a toilet, within three days of the start; the average leak "
                "so found had been losing 190 gallons a day.",
            ),
        ],
        footnotes=("A further 604 hydrants stand on private ground and are inspected at their owners' cost.",),
    )


def distribution_losses() -> Page:
    loss = []
    for label, figures in {
        "Water supplied": [total(SUPPLY, year) for year in FIVE_YEARS],
        "Water sold": [-total(CONSUMPTION, year) for year in FIVE_YEARS],
        "Non-revenue water": [non_revenue_water(year) for year in FIVE_YEARS],
        "  of which used and not billed": [118, 121, 127, 139, 146],
        "  of which slow or wrong meters": [232, 238, 251, 214, 173],
        "  of which leaks, by difference": [
            non_revenue_water(year) - unbilled - meters
            for year, unbilled, meters in zip(
                FIVE_YEARS, (118, 121, 127, 139, 146), (232, 238, 251, 214, 173), strict=True
            )
        ],
    }.items():
        loss.append(Row((label, *map(amount, figures)), "total" if label == "Non-revenue water" else "plain"))
    percents = [share(non_revenue_water(year), total(SUPPLY, year)) for year in FIVE_YEARS]
    tanks = (
        ("Weir Street 1", "Port Ansel, low", "1936", "3.0", "concrete", "248", "2017"),
        ("Weir Street 2", "Port Ansel, low", "1961", "5.0", "concrete", "248", "2019"),
        ("Signal Hill", "Port Ansel, high", "1958", "2.5", "steel", "431", "2012"),
        ("Hollis Creek East", "Hollis", "1988", "4.0", "concrete", "512", "2021"),
        ("Hollis Creek West", "Hollis", "2004", "4.0", "concrete", "512", "2020"),
        ("Quarry Hill (new)", "Quarry", "2024", "4.0", "concrete", "690", "new"),
        ("Quarry Hill (old)", "Quarry", "1949", "1.2", "steel", "684", "2010"),
        ("Larkspur Flats", "Quarry", "1972", "2.0", "steel", "702", "2016"),
        ("Dunmore Lower", "Dunmore", "1968", "1.5", "steel", "1,240", "2014"),
        ("Dunmore Upper", "Dunmore", "1995", "0.8", "steel", "1,815", "2018"),
    )
    return Page(
        "Distribution",
        [
            Heading(2, "Water losses"),
            *prose(
                "Of every hundred gallons sent into the mains, nine are not sold. Some of these do good work, at "
                "fires, in flushing and in the plants; some are sold but not measured, because old meters run "
                "slow; and some leak away. The third part is not measured but is what remains when the others are "
                "taken from the whole.",
            ),
            Table(
                "19",
                "Non-revenue water, five years",
                "in million gallons",
                ("", *map(str, FIVE_YEARS)),
                [*loss, Row(("Percent of water supplied", *percents))],
                "lrrrrr",
            ),
            *prose(
                "New meters are the reason that the second part shrinks. The Weir Street break alone spilled some "
                "9 million gallons, about one hundredth of the year's leaks. The State's yardstick, the "
                "infrastructure leakage index, stood at 2.1 in 2024 and 2.3 in 2023; 1.0 is thought to be the best "
                "that can be had and the district aims for 1.8 by 2028.",
            ),
            Heading(2, "Tanks"),
            Table(
                "20",
                "Storage tanks for treated water",
                "volume in million gallons; overflow in feet above sea level",
                ("Tank", "Zone", "Built", "Volume", "Material", "Overflow", "Last cleaned"),
                [Row(line) for line in tanks],
                "lllrlrr",
            ),
            *prose(
                "The new Quarry Hill tank replaces the old steel tank beside it, which will be taken down in the "
                "spring of 2025. Until then the old tank is empty and does not count toward the 26.8 million "
                "gallons in service. The tank is the first of the district's to be built of wire-wound concrete, "
                "and is anchored to rock with 64 steel cables for earthquakes. Divers clean the others about every "
                "seventh year; Signal Hill, put off twice, was two-thirds empty for six weeks of the fall for "
                "repair of its roof and will be cleaned in 2025.",
            ),
            Heading(2, "Pump stations"),
            *prose(
                "Fourteen stations lift water between the zones; the largest, Basalt Road, raises 6.8 mgd by 560 "
                "feet to Dunmore Bench. Nine have standby generators and five, among them Larkspur Flats, can take "
                "a mobile one. After the ice storm of January, when Larkspur Flats was without power for 26 hours, "
                "the Board added $340,000 to project C-127 for a generator of its own. Pumps ran at an average "
                "efficiency of 71 percent when tested, one point better than the year before; the two worst, at 58 "
                "percent, are at Signal Hill.",
            ),
        ],
    )


def customers() -> Page:
    household = [
        CONSUMPTION["Single-family residential"][i] * 1e6 / ACCOUNTS["Single-family residential"][i] / 365
        for i in range(5)
    ]
    service = (
        ("Calls answered", "88,412", "91,730", "84,065", "none"),
        ("Average wait, seconds", "104", "151", "117", "60"),
        ("Calls given up, percent", "5.8", "8.2", "6.1", "4.0"),
        ("Bills sent, thousands", "722", "729", "735", "none"),
        ("Bills corrected, per thousand", "3.9", "4.6", "2.7", "2.0"),
        ("Bills paid by automatic debit, percent", "38", "41", "44", "50"),
        ("Paperless accounts, percent", "33", "36", "40", "45"),
        ("Services shut off for non-payment", "214", "388", "341", "none"),
        ("Customers satisfied, percent of survey", "81", "76", "82", "85"),
    )
    return Page(
        "Customers and consumption",
        [
            Heading(1, "Customers and consumption"),
            *prose(
                f"The district had {total(ACCOUNTS, 2024):,} active accounts on June 30, 2024, "
                f"{total(ACCOUNTS, 2024) - total(ACCOUNTS, 2023)} more than a year before. Growth has slowed: the "
                "ten-year average is 558 accounts a year. Larkspur Flats, where 201 homes were finished, took the "
                "most of it. Six accounts in seven are single-family homes, and they use half of the water that is "
                "sold.",
            ),
            Table(
                "21",
                "Active accounts by class, five years",
                "number on June 30",
                ("Class", *map(str, FIVE_YEARS)),
                rows(ACCOUNTS, "All accounts"),
                "lrrrrr",
            ),
            *prose(
                "The ten largest customers bought 9.6 percent of the water and paid 7.1 percent of the charges. "
                "The largest was the Town of Brindle Fork, with 388 million gallons; then came the cannery of Port "
                "Ansel Packing, with 204, and the county hospital, with 97. Packing closed one of its three lines "
                "in February 2024, which is the main reason for the drop in industrial sales. No retail customer "
                "pays more than two percent of operating revenue.",
            ),
            BarChart(
                "Use of a single-family home, gallons a day",
                [str(year) for year in FIVE_YEARS],
                household,
                "{:.0f}",
                height=72,
            ),
            Heading(2, "Service"),
            Table(
                "22",
                "Customer service",
                "fiscal years; goal for 2026",
                ("Measure", "2022", "2023", "2024", "Goal"),
                [Row(line) for line in service],
                "lrrrr",
            ),
            *prose(
                "The telephone is still answered too slowly. The average wait fell from 151 seconds to 117, but "
                "the aim of the strategic plan is a minute. The change of billing system in September 2023, "
                "planned for four days, kept the old and the new system running side by side for seven weeks. "
                "Estimated bills, which had caused most of the appeals of 2023, fell from 31,200 to 8,900 as "
                "advanced meters replaced dials that had to be read by foot.",
                "The survey is taken each April among 1,200 customers, by telephone and text message; its margin "
                "of error is three points. Price was named as the first concern by 41 percent and taste by 18.",
            ),
        ],
    )


def consumption() -> Page:
    quarters = {  # October to December, January to March, April to June, July to September
        "Single-family residential": (1_214, 887, 1_498, 2_117),
        "Multi-family residential": (424, 416, 447, 476),
        "Commercial": (301, 286, 346, 388),
        "Industrial": (181, 162, 180, 193),
        "Institutional": (92, 71, 140, 206),
        "Irrigation": (71, 18, 254, 431),
        "Wholesale": (118, 101, 147, 187),
    }
    quarters["All classes"] = tuple(map(sum, zip(*quarters.values(), strict=True)))
    seasons = []
    for name, values in quarters.items():
        cells = (name, *(f"{v:,}" for v in values), share(values[3] - values[1], values[3]))
        seasons.append(Row(cells, "total" if name == "All classes" else "plain"))
    return Page(
        "Customers and consumption",
        [
            Heading(2, "Who used the water"),
            Table(
                "23",
                "Water sold by class, five years",
                "in million gallons",
                ("Class", *map(str, FIVE_YEARS)),
                rows(CONSUMPTION, "All classes"),
                "lrrrrr",
            ),
            *prose(
                f"Sales came to {total(CONSUMPTION, 2024):,} million gallons, "
                f"{percent(total(CONSUMPTION, 2024), total(CONSUMPTION, 2023))} less than in 2023. Retail sales, "
                f"without the three wholesale customers, were {total(CONSUMPTION, 2024) - 553:,} million gallons "
                f"against {total(CONSUMPTION, 2023) - 602:,}. Only three retail classes used more: apartments, of "
                "which there are more each year; commerce, now one and a half percent above where it stood before "
                "the pandemic; and institutions, by four million gallons, through the reopening of the Hollis "
                "Creek swimming hall in October 2023.",
                "Irrigation accounts, which are separate meters for lawns, parks and cemeteries, have used less in "
                "each of the last three years, under a price that is the highest of any class and a rule of 2022 "
                "that forbids spray on strips narrower than eight feet. The Port Ansel parks department alone took "
                "out eleven acres of turf in two years.",
            ),
            Table(
                "24",
                "Water sold by quarter, fiscal year 2024",
                "in million gallons; last column: excess of summer over winter, percent of summer",
                ("Class", "Oct - Dec", "Jan - Mar", "Apr - Jun", "Jul - Sep", "Seasonal\npart"),
                seasons,
                "lrrrrr",
            ),
            Heading(2, "Conservation programs"),
            *prose(
                "The district spent $1,146,000 on conservation, $212,000 of it from a State grant. The largest "
                "program pays $2.75 for each square foot of lawn replaced by plants that do with rain: 311 "
                "customers gave up 4.6 acres of grass. Rebates for 1,902 toilets and 844 washing machines "
                "followed. House calls, at which a technician reads the meter with the owner and sets the "
                "sprinklers, numbered 1,287; homes so visited in 2022 used 9 percent less in the next two years "
                "than similar homes that were not, a smaller saving than the 14 percent claimed when the program "
                "began.",
                "Schools received 96 visits. A garden of plants for dry summers, opened behind the Weir Street "
                "office in May 2023, drew 5,300 visitors in its first full year. The program of free rain barrels "
                "was closed in December 2023 after a count found one in three of them unused.",
            ),
            Heading(2, "What is expected"),
            *prose(
                "The forecast of 2023 puts retail sales at 10,850 million gallons in 2025 and 10,700 in 2030, with "
                "64,000 accounts. It supposes normal weather, an increase of rates of 5 percent a year through "
                "2028, and the end of one more line at the cannery. A hot, dry summer such as that of 2021 would "
                "add about 4 percent.",
            ),
        ],
    )


def rates() -> Page:
    def rate_rows(table: dict[str, tuple[float, ...]]) -> list[Row]:
        printed = []
        for name, values in table.items():
            cells = (
                name,
                *(f"{value:.2f}" for value in values),
                f"{(values[2] / values[1] - 1) * 100:.1f}",
                f"{(values[3] / values[2] - 1) * 100:.1f}",
            )
            printed.append(Row(cells))
        return printed

    years = ("2022", "2023", "2024", "2025", "Rise in\n2024 (%)", "Rise in\n2025 (%)")
    return Page(
        "Rates and charges",
        [
            Heading(1, "Rates and charges"),
            *prose(
                "A water bill has two parts: a fixed charge that depends on the size of the meter and a charge for "
                "each hundred cubic feet (ccf, 748 gallons) used. Single-family homes pay for water in four tiers, "
                "other classes at one rate. Rates change on July 1. Those of 2025 were adopted on May 14, 2024, "
                "after notice by mail to every owner; 1,377 written protests were received, far from the 30,618 "
                "that would have stopped the change.",
            ),
            Table(
                "25",
                "Charges for water, by fiscal year",
                "dollars per ccf; in force from July 1 of the year before",
                ("", *years),
                [
                    section("Single-family residential, by monthly use"),
                    *rate_rows(TIERS),
                    section("All other classes, one rate"),
                    *rate_rows(UNIFORM_RATES),
                ],
                "lrrrrrr",
            ),
            *notes(
                "(a) Buildings of three or more homes behind one meter. Buildings of two homes pay the tiers of a "
                "single-family home, doubled in width.",
                "(b) A surcharge of $0.85 per ccf applied to irrigation from July 1, 2022 until February 13, 2024 "
                "under the drought stages and is not in the table.",
                "(c) Wholesale customers pay in addition a demand charge for reserved capacity, $135,000 a month "
                "for the three together in 2024, up from $131,000.",
            ),
            Table(
                "26",
                "Fixed charge by meter size, by fiscal year",
                "dollars a month",
                ("Meter", *years),
                rate_rows(FIXED_CHARGES),
                "lrrrrrr",
            ),
            *notes(
                "(d) Meters of 6 inches and more pay by agreement, never less than the charge shown. There were "
                "44 of them on June 30, 2024."
            ),
            Heading(2, "How the rates were set"),
            *prose(
                "The cost study of 2021, by the district's own staff with an outside reviewer, divides the yearly "
                "cost into base use, peak use, customers and fire. It found that Tier 1 should bear no part of the "
                "cost of peaks, which is why that tier has risen least. Fixed charges bring in 30 percent of the "
                "revenue from retail rates; the study advised 34, but the Board chose to stay lower so that those "
                "who save water see it in the bill.",
                f"A home that uses 10 ccf a month paid ${monthly_bill(10, 2):.2f} in 2024 and pays "
                f"${monthly_bill(10, 3):.2f} in 2025. At 20 ccf the bill goes from ${monthly_bill(20, 2):.2f} to "
                f"${monthly_bill(20, 3):.2f}. A home that uses 4 ccf pays ${monthly_bill(4, 3):.2f}, or "
                f"${monthly_bill(4, 3) - monthly_bill(4, 2):.2f} more than before.",
            ),
        ],
    )


def rates_other() -> Page:
    fees = (
        ("New service, 5/8 or 3/4 inch, capacity fee", "8,940", "9,310", "one time, by meter"),
        ("New service, 1 inch, capacity fee", "14,900", "15,520", "one time, by meter"),
        ("New service, 2 inch, capacity fee", "47,680", "49,650", "one time, by meter"),
        ("Turning service on, business hours", "45", "45", "each"),
        ("Turning service on, after hours", "130", "145", "each"),
        ("Late payment, percent of bill", "5", "4", "from 25 days"),
        ("Meter test asked for by customer", "95", "95", "refunded if meter is fast"),
        ("Fire line, 6 inch, a month", "38.10", "39.70", "per line"),
        ("Hydrant meter, deposit", "1,500", "1,800", "refundable"),
        ("Water taken without permission", "1,000", "2,500", "first offense"),
    )
    neighbors = (
        (
            DISTRICT,
            "22.85",
            f"{monthly_bill(10, 2) - 22.85:.2f}",
            *(f"{monthly_bill(ccf, 2):.2f}" for ccf in (10, 4, 20)),
        ),
        ("Town of Brindle Fork", "27.50", "38.90", "66.40", "42.10", "112.80"),
        ("Sable Mesa Community Services", "34.00", "31.60", "65.60", "46.10", "103.75"),
        ("Copperline Mutual Water Assoc.", "18.00", "26.50", "44.50", "28.20", "71.00"),
        ("City of Norvale", "19.75", "33.10", "52.85", "32.65", "97.60"),
        ("Fennimore Water Department", "24.10", "35.75", "59.85", "37.90", "118.25"),
    )
    return Page(
        "Rates and charges",
        [
            Heading(2, "Other charges"),
            Table(
                "27",
                "Selected fees",
                "in dollars unless a line says otherwise; by fiscal year",
                ("Fee", "2023", "2024", "Basis"),
                [Row(line) for line in fees],
                "lrrl",
            ),
            *prose(
                "Capacity fees pay for the part of the system that new customers will use. They follow an index of "
                f"building costs, 4.1 percent in 2024. Receipts fell to {millions(flow('Capacity fees', 2024))} "
                f"from {millions(flow('Capacity fees', 2023))}, because fewer and smaller homes were connected. The "
                "late charge was lowered from 5 percent to 4 on January 1, 2024, at the request of Director "
                "Tarrow; the fine for taking water without permission was raised on the same day, after meters on "
                "two building sites had been found turned around.",
            ),
            Heading(2, "How the district compares"),
            Table(
                "28",
                "Monthly bill of a single-family home, January 2024",
                "in dollars, smallest meter, without taxes",
                ("Utility", "Fixed\ncharge", "Water,\n10 ccf", "Bill,\n10 ccf", "Bill,\n4 ccf", "Bill,\n20 ccf"),
                [Row(line) for line in neighbors],
                "lrrrrr",
            ),
            Heading(2, "Help with bills"),
            *prose(
                "Help cannot be paid for from rates under the State's constitution. The district uses rents from "
                "cell towers and the interest on them instead. The <b>Open Tap</b> program took $9.50 a month off "
                "the bills of 3,918 households in 2024, up from 3,540; their income may not exceed 150 percent of "
                "the federal poverty line. Spending came to $438,000. A further fund, filled by gifts of customers "
                "who round their bills up, gave 266 households one payment of up to $300; it took in $61,400 and "
                "paid out $58,900.",
                "Service is not shut off before a bill is 75 days late, nor on Fridays, holidays or days when 95 "
                "degrees are forecast. No service was shut off between March 2020 and November 2021. Of the 341 "
                "homes shut off in 2024, 322 were turned on again within three days. Debts written off came to "
                "0.31 percent of charges, down from 0.44.",
            ),
            Heading(2, "Private fire protection and wholesale"),
            *prose(
                "Owners of buildings with sprinklers pay for the line that stands ready: 1,406 such lines brought "
                f"in {dollars(flow('Private fire protection', 2024))}. Hydrants on public streets are paid for by "
                "all customers. Wholesale contracts with Brindle Fork and Sable Mesa run to 2035 and that with "
                "Copperline to June 30, 2027. Copperline disputes how its share of the cost of peaks is reckoned, "
                "and pays under protest; the sum in question is about $94,000 a year.",
            ),
        ],
    )


def capital_program() -> Page:
    plan = (
        ("Source and dams", "4.0", "9.6", "7.1", "3.4", "2.0", "26.1"),
        ("Treatment", "15.9", "11.2", "6.5", "3.8", "3.1", "40.5"),
        ("Mains", "9.4", "10.8", "12.0", "12.6", "13.3", "58.1"),
        ("Tanks and pumping", "4.2", "2.9", "5.6", "7.7", "6.4", "26.8"),
        ("Meters and systems", "5.6", "2.4", "1.0", "1.1", "1.1", "11.2"),
        ("Vehicles and small works", "0.9", "0.9", "1.0", "1.0", "1.1", "4.9"),
        ("All", "40.0", "37.8", "33.2", "29.6", "27.0", "167.6"),
    )
    sources = (
        ("Rates and reserves", "21.9", "18.3", "19.4", "19.6", "19.7", "98.9"),
        ("State revolving fund loans", "6.1", "7.0", "3.8", "-", "-", "16.9"),
        ("Grants", "5.8", "6.3", "2.9", "1.5", "1.0", "17.5"),
        ("Capacity fees", "2.7", "2.7", "2.8", "2.8", "2.9", "13.9"),
        ("Bonds, not yet issued", "-", "-", "3.0", "5.7", "3.4", "12.1"),
        ("Settlements and others", "3.5", "3.5", "1.3", "-", "-", "8.3"),
        ("All", "40.0", "37.8", "33.2", "29.6", "27.0", "167.6"),
    )

    def as_rows(lines: tuple[tuple[str, ...], ...]) -> list[Row]:
        return [Row(line, "total" if line[0] == "All" else "plain") for line in lines]

    header = ("", "2025", "2026", "2027", "2028", "2029", "Five years")
    return Page(
        "Capital program",
        [
            Heading(1, "The capital program"),
            *prose(
                f"The district spent {millions(-flow('Acquisition of capital assets', 2024))} on capital works in "
                f"2024, after {millions(-flow('Acquisition of capital assets', 2023))} in 2023 and "
                f"{millions(-flow('Acquisition of capital assets', 2022))} in 2022. Two projects were finished. The "
                "Weir Street main replacement, C-112, had been under way for fourteen months when the section next "
                "to it, not part of the project, broke on March 2; the new pipe had been opened nine days earlier "
                "and allowed a third of the city to be served around the break. The Quarry Hill tank, C-118, is "
                "described on page 13.",
                "<b>Ansel filters (C-101).</b> The budget was raised from $22.9 million to $24.6 million in "
                "October 2023, when the concrete under filters 5 and 6 proved to be worn. Nine filters remain. "
                "<b>Ozone (C-104).</b> Within its budget, with about $1.3 million to spend; late by five months, "
                "because the generators waited for a switchboard. <b>Sill Creek spillway (C-110).</b> The permit "
                "of the State's dam office, expected in June 2023, came on November 17. The labyrinth weir will "
                "pass 41,000 cubic feet a second, against 23,500 today.",
                "<b>Cast iron mains (C-115).</b> Phase 4 renews 9.8 miles, of which 5.7 were in the ground at year "
                "end. Its contractor, chosen from four bidders, was $610,000 below the engineer's estimate. "
                "<b>PFAS (C-121).</b> Design was 60 percent complete on June 30; a grant of $4.9 million has been "
                "awarded. <b>Meters (C-123).</b> 41,200 of 61,200 meters were done; a shortage of radio modules in "
                "the winter cost ten weeks. <b>Norvale (C-130).</b> Only the study of the route has been ordered, "
                "and the rest is held until the Board decides in 2026.",
            ),
            Heading(2, "The next five years"),
            *prose(
                "The plan adopted on May 30, 2024 foresees $167.6 million through 2029. Treatment leads until "
                "2026; from 2027 the money goes to mains, so that one percent of the network can be renewed each "
                "year from 2029 on. A bond of some $12 million is foreseen for 2027, the first since 2021.",
            ),
            Table(
                "29",
                "Capital plan by purpose",
                "in millions of dollars; fiscal years",
                header,
                as_rows(plan),
                "lrrrrrr",
            ),
            Table(
                "30",
                "Capital plan by source of money",
                "in millions of dollars; fiscal years",
                header,
                as_rows(sources),
                "lrrrrrr",
            ),
            *prose(
                "Prices are those of the year of spending, with 4 percent of yearly increase. Contingency, 15 "
                "percent at the start of design and 8 at the award of a contract, is included. The plan is "
                "reviewed each spring by the Engineering and Operations Committee.",
            ),
        ],
    )


def capital_projects() -> Page:
    lines = []
    for number, name, budget, before, spent, completion in PROJECTS:
        done = before + spent
        lines.append(
            Row(
                (
                    number,
                    name,
                    f"{budget:,}",
                    amount(before),
                    f"{spent:,}",
                    f"{done:,}",
                    amount(budget - done),
                    share(done, budget),
                    completion,
                )
            )
        )
    budget, before, spent = (sum(project[i] for project in PROJECTS) for i in (2, 3, 4))
    sums = (
        f"{budget:,}",
        f"{before:,}",
        f"{spent:,}",
        f"{before + spent:,}",
        f"{budget - before - spent:,}",
        share(before + spent, budget),
    )
    bids = (
        ("C-110", "Sill Creek spillway, civil works", "5", "11,870", "12,400", "13,265", "Jan 9, 2024"),
        ("C-115", "Cast iron mains, phase 4b", "4", "5,390", "6,000", "5,812", "Sep 12, 2023"),
        ("C-123", "Meter installation, third lot", "3", "4,105", "3,900", "4,480", "Nov 14, 2023"),
        ("C-127", "Larkspur Flats pump station", "6", "2,640", "2,950", "2,711", "Oct 10, 2023"),
        ("C-131", "Floating solar, anchoring", "2", "498", "450", "540", "Jul 11, 2023"),
        ("C-134", "Supervisory control, software", "3", "1,220", "1,300", "1,365", "Apr 9, 2024"),
    )
    return Page(
        "Capital program",
        [
            Heading(2, "Projects"),
            Table(
                "31",
                "Capital projects",
                "in thousands of dollars; spending to June 30, 2024; * completed",
                (
                    "No.",
                    "Project",
                    "Budget",
                    "Before\n2024",
                    "Spent\nin 2024",
                    "Spent\nto date",
                    "Left",
                    "Percent\nspent",
                    "Completion",
                ),
                [*lines, Row(("", "All projects", *sums, ""), "total")],
                "llrrrrrrr",
                size=7.8,
            ),
            *notes(
                "Budgets are for the whole life of a project, except C-140, which is renewed each year. The money "
                "left on C-112 ($335,000) and C-118 ($397,000) returned to reserves in July 2024. Spending on "
                "C-131 includes $171,000 paid by the maker of the panels as a discount after delivery and not "
                "deducted here.",
            ),
            *prose(
                "Measured by spending, the program stood at 36 percent of the budgets of all open projects at the "
                "end of 2023, a figure that says little, since new projects join each year. A better measure is "
                "the schedule: of the eleven projects that had a date of completion in last year's report, six "
                "have kept it, three are late by up to six months (C-104, C-123 and C-131) and two by more (C-110, "
                "by nine months, and C-101, by twelve).",
            ),
            Heading(2, "Contracts awarded"),
            Table(
                "32",
                "Construction contracts awarded, fiscal year 2024",
                "in thousands of dollars",
                ("Project", "Work", "Bids", "Lowest\nbid", "Engineer's\nestimate", "Second\nbid", "Award"),
                [Row(line) for line in bids],
                "llrrrrr",
            ),
            *prose(
                "All six went to the lowest bidder. A protest against the award of the spillway, by the second "
                "bidder, was heard by the Board on January 23 and denied. Change orders on all contracts open in "
                "the year came to $1,388,000, or 4.6 percent of their value, of which $740,000 is the concrete of "
                "the Ansel filters. Work worth 14 percent of the contracts went to firms of fewer than 25 people, "
                "the goal being 12.",
            ),
            Heading(2, "How projects are chosen"),
            *prose(
                "Each proposed work is scored from 0 to 100: 35 points for the risk that it removes, 25 for what "
                "the law requires, 20 for the number of customers affected, 10 for savings in operation and 10 for "
                "the chance of outside money. The scores are public. The highest in 2024 was the Sill Creek "
                "spillway, with 91; the Norvale interconnection, with 48, stands below the line that the plan can "
                "pay for. Works that would be cheaper if done with a city's own paving are moved forward when the "
                "city gives a year's notice.",
            ),
        ],
    )


def financial_review() -> Page:
    def m(figure: Callable[[int], int]) -> tuple[str, ...]:
        values = [figure(year) for year in STATEMENT_YEARS]
        return (*(amount(v) for v in values), amount(values[0] - values[1]))

    summary = [
        Row(("Operating revenue", *m(operating_revenue))),
        Row(("Operating expense", *m(operating_expense))),
        Row(("Operating income", *m(operating_income)), "total"),
        Row(("Nonoperating revenue and expense, net", *m(nonoperating))),
        Row(("Capital contributions", *m(contributions))),
        Row(("Change in net position", *m(change_in_net_position)), "total"),
        Row(("Capital assets, net", *m(capital_assets))),
        Row(("Bonds and loans", *m(lambda year: balance("Bonds and loans", year)))),
        Row(("Net position, June 30", *m(net_position)), "total"),
    ]
    budget = (
        ("Operating revenue", "76,480", "77,197", "717"),
        ("Operating expense before depreciation", "55,150", "54,371", "779"),
        ("Property tax share", "5,150", "5,230", "80"),
        ("Investment earnings", "1,900", "3,412", "1,512"),
        ("Capital spending", "38,600", "35,120", "3,480"),
    )
    return Page(
        "Financial review",
        [
            Heading(1, "Financial review"),
            *prose(
                "<i>By the Chief Financial Officer. This review is not audited; it should be read with the "
                "statements that follow the auditor's letter.</i>"
            ),
            Table(
                "33",
                "Three years in brief",
                "in thousands",
                ("", "2024", "2023", "2022", "Change from\n2023"),
                summary,
                "lrrrr",
            ),
            *prose(
                f"Operating revenue rose by {percent(operating_revenue(2024), operating_revenue(2023))}, or "
                f"{dollars(operating_revenue(2024) - operating_revenue(2023))}, although less water was sold: the "
                "rates of July 2023 added more than the fall in sales took away. Operating expense rose by "
                f"{percent(operating_expense(2024), operating_expense(2023))}. Treatment grew fastest, by "
                f"{percent(flow('Water treatment', 2024), flow('Water treatment', 2023))}, through the price of "
                "chemicals, of which alum alone cost $181,000 more, and through the two operators hired ahead of "
                "the ozone system. Power and pumping cost "
                f"{percent(flow('Power and pumping', 2024), flow('Power and pumping', 2023))} less, thanks to fewer "
                "gallons and to the solar panels.",
                f"Investments earned {millions(flow('Investment earnings (loss)', 2024))}. Two years before, when "
                "interest rates rose and the market value of bonds fell, they had shown a loss of "
                f"{dollars(-flow('Investment earnings (loss)', 2022))}. Grants of {millions(flow('Grants', 2024))} "
                "came from the State for the spillway and for the PFAS design, and from the federal government for "
                "meters.",
                f"Net revenue covered debt service {coverage(2024):.2f} times, after {coverage(2023):.2f} in 2023 "
                f"and {coverage(2022):.2f} in 2022; the bonds require 1.25. The rating agency that raised the "
                "district's senior bonds to AA in February gave three reasons: fuller reservoirs, a reserve policy "
                "with more days, and rates adopted two years ahead. The state revolving fund loans are subordinate "
                "and not rated.",
            ),
            Heading(2, "Budget and actual"),
            Table(
                "34",
                "Budget and actual, fiscal year 2024",
                "in thousands; difference without sign",
                ("", "Budget", "Actual", "Difference"),
                [Row(line) for line in budget],
                "lrrr",
            ),
            *prose(
                "Operating expense stayed below the budget mostly because positions were vacant, by 6.5 on "
                "average, and because only $165,000 of the $600,000 set aside for drought measures was needed. The "
                "break on Weir Street cost $1,127,000 to mend and clean up, of which insurance has agreed to pay "
                "all but the deductible of $250,000. Claims of 43 owners for flooded cellars came to $389,000 and "
                "had been settled, except two, by October.",
                "The budget of 2025 foresees operating revenue of $80.1 million, operating expense before "
                "depreciation of $57.9 million and a coverage of 2.15. It adds six positions: four operators, one "
                "inspector of cross-connections and one analyst of meter data.",
            ),
        ],
    )


def auditors_letter() -> Page:
    return Page("Auditor's letter", image=draw_scan)


def statement_of_net_position() -> Page:
    return Page(
        "Financial statements",
        [
            Heading(1, "Financial statements"),
            Heading(2, "Statement of net position"),
            Table(
                "35",
                "Statement of net position, June 30",
                "in thousands",
                ("", "2024", "2023", "2022"),
                [
                    section("Current assets"),
                    by_year("Cash and cash equivalents", cash),
                    *balances(CURRENT_ASSETS),
                    by_year("Total current assets", current_assets, "total"),
                    section("Noncurrent assets"),
                    *balances(("Restricted investments", "Lease receivable")),
                    by_year("Capital assets, net of depreciation", capital_assets),
                    by_year("Total noncurrent assets", noncurrent_assets, "total"),
                    by_year("Total assets", total_assets, "total"),
                    section("Deferred outflows of resources"),
                    *balances(DEFERRED_OUTFLOWS),
                    section("Current liabilities"),
                    *balances(CURRENT_PAYABLES),
                    by_year("Bonds and loans, due within one year", current_principal),
                    by_year("Total current liabilities", current_liabilities, "total"),
                    section("Noncurrent liabilities"),
                    by_year(
                        "Bonds and loans, due later", lambda y: balance("Bonds and loans", y) - current_principal(y)
                    ),
                    *balances(LONG_TERM_LIABILITIES),
                    by_year("Total noncurrent liabilities", noncurrent_liabilities, "total"),
                    by_year("Total liabilities", total_liabilities, "total"),
                    section("Deferred inflows of resources"),
                    *balances(DEFERRED_INFLOWS),
                    section("Net position"),
                    by_year("Net investment in capital assets", net_investment_in_capital_assets),
                    by_year("Restricted for debt service", lambda y: RESTRICTED_FOR_DEBT_SERVICE[y]),
                    by_year("Restricted for capital works", lambda y: RESTRICTED_FOR_CAPITAL[y]),
                    by_year("Unrestricted", unrestricted_net_position),
                    by_year("Total net position", net_position, "total"),
                ],
                "lrrr",
                size=7.8,
            ),
            *prose(
                "The notes on pages 25 to 29 are a part of this statement. Accounts receivable are shown after an "
                "allowance for doubtful accounts of $642,000 in 2024, $718,000 in 2023 and $805,000 in 2022; about "
                "a third of the gross amount is water delivered before June 30 and billed after it. Investments "
                "are carried at fair value and restricted investments are held by the bond trustee or under the "
                "terms of a grant.",
            ),
        ],
    )


def statement_of_revenues() -> Page:
    return Page(
        "Financial statements",
        [
            Heading(2, "Statement of revenues, expenses and changes in net position"),
            Table(
                "36",
                "Revenues, expenses and changes in net position, years ended June 30",
                "in thousands",
                ("", "2024", "2023", "2022"),
                [
                    section("Operating revenues"),
                    *flows(tuple(OPERATING_REVENUES)),
                    by_year("Total operating revenues", operating_revenue, "total"),
                    section("Operating expenses"),
                    *flows(tuple(OPERATING_EXPENSES)),
                    by_year("Total operating expenses", operating_expense, "total"),
                    by_year("Operating income", operating_income, "total"),
                    section("Nonoperating revenues and expenses"),
                    *flows(tuple(NONOPERATING)),
                    by_year("Total nonoperating, net", nonoperating, "total"),
                    by_year("Income before contributions", lambda y: operating_income(y) + nonoperating(y), "total"),
                    section("Capital contributions"),
                    *flows(tuple(CONTRIBUTIONS)),
                    by_year("Total capital contributions", contributions, "total"),
                    by_year("Change in net position", change_in_net_position, "total"),
                    by_year("Net position, beginning of year", lambda y: net_position(y - 1)),
                    by_year("Net position, end of year", net_position, "total"),
                ],
                "lrrr",
            ),
            *prose(
                "The notes on pages 25 to 29 are a part of this statement.",
                "Volumetric charges include the drought surcharge on irrigation, $411,000 in 2024 and $688,000 in "
                "2023. Wholesale sales include demand charges of $1,620,000 in 2024 and $1,572,000 in 2023. Late "
                "fees alone were $874,000; the rest of other operating revenue is service fees, fines and the sale "
                "of meters and fittings. The district's share of the property tax is set by the county auditor at "
                "0.0184 percent of assessed value and isn't restricted to any purpose. The loss on disposal in "
                "2024 comes chiefly from 31 vehicles and from pumps taken out at Signal Hill before the end of "
                "their lives.",
                "Interest of $1,086,000 on debt raised for works under construction is included in interest "
                "expense, as the standards have required since 2021, and is not added to the cost of the works. "
                "Assets contributed by developers are recorded at their acquisition value on the day the Board "
                "accepts them: 4.9 miles of main, 38 hydrants and 412 services in 2024.",
            ),
        ],
    )


def statement_of_cash_flows() -> Page:
    def lines(table: dict[str, Callable[[int], int]]) -> list[Row]:
        return [by_year(name, figure) for name, figure in table.items()]

    return Page(
        "Financial statements",
        [
            Heading(2, "Statement of cash flows"),
            Table(
                "37",
                "Cash flows, years ended June 30",
                "in thousands",
                ("", "2024", "2023", "2022"),
                [
                    section("Operating activities"),
                    by_year("Receipts from customers", receipts_from_customers),
                    by_year("Payments to suppliers", payments_to_suppliers),
                    by_year("Payments to employees", lambda y: flow("Payments to employees", y)),
                    by_year("Net cash from operating activities", operating_cash, "total"),
                    section("Noncapital financing activities"),
                    by_year("Property taxes received", lambda y: flow("Property tax share", y)),
                    section("Capital and related financing activities"),
                    *lines(CAPITAL_FINANCING),
                    by_year("Net cash used for capital financing", capital_financing_cash, "total"),
                    section("Investing activities"),
                    *lines(INVESTING),
                    by_year("Net cash from investing activities", investing_cash, "total"),
                    by_year("Change in cash", change_in_cash, "total"),
                    by_year("Cash, beginning of year", lambda y: cash(y - 1)),
                    by_year("Cash, end of year", cash, "total"),
                    section("Operating income to net cash from operating activities"),
                    by_year("Operating income", operating_income),
                    *lines(RECONCILING_ITEMS),
                    by_year("Net cash from operating activities", operating_cash, "total"),
                    section("Without cash"),
                    by_year("Assets contributed by developers", lambda y: flow("Assets contributed by developers", y)),
                    by_year("Right-of-use assets gained by lease", lambda y: NEW_LEASES[y]),
                ],
                "lrrr",
            ),
            *prose(
                "The notes on pages 25 to 29 are a part of this statement. Cash equivalents are deposits and "
                "shares in the county investment pool that can be drawn on within a day; all other investments, "
                "however short, are shown as investments. Cash fell for the third year, by design: the works of "
                "these years were paid for from money set aside before them.",
            ),
        ],
    )


def notes_policies_and_cash() -> Page:
    holdings = (
        ("County investment pool", "9,120", "0.7", "not rated", "1"),
        ("U.S. Treasury notes", "21,455", "2.1", "AA+", "1"),
        ("Federal agency notes", "12,310", "2.6", "AA+", "2"),
        ("Supranational bonds", "4,280", "3.0", "AAA", "2"),
        ("Corporate notes", "6,045", "1.8", "A or better", "2"),
        ("Money market funds held by trustee", "7,060", "0.1", "AAA", "1"),
        ("Bank deposits", "4,721", "-", "-", "-"),
    )
    held = sum(int(line[1].replace(",", "")) for line in holdings)
    assert held == cash(2024) + balance("Investments", 2024) + balance("Restricted investments", 2024), held
    return Page(
        "Notes to the financial statements",
        [
            Heading(1, "Notes to the financial statements"),
            Heading(2, "Note 1. The district and its accounting"),
            *prose(
                "The district is a special district under the County Water Act of 1927, independent of the county "
                "and the cities that it serves. It has one component unit, the Tamarack Valley Water Financing "
                "Corporation, a body without staff whose only business is to issue debt on the district's behalf; "
                "its accounts are blended with the district's own. The district is not liable for the debts of the "
                "Norvale Regional Aqueduct Authority, on whose board it has one of nine seats.",
                "The accounts are kept as those of one enterprise fund, on the accrual basis. Revenue and expense "
                "are <i>operating</i> when they come from supplying water; taxes, interest, rents and grants are "
                "not. Water delivered and not yet billed on June 30 is recorded as revenue. When an outlay could "
                "be met from restricted or unrestricted money, restricted money is used first.",
                "Capital assets costing more than $7,500 and lasting more than two years are recorded at cost and "
                "written off in equal yearly parts: dams over 100 years, mains over 75, plants and tanks over 40 "
                "to 50, pumps and meters over 15 to 20, vehicles over 8. Materials are valued at average cost. "
                "Employees earn up to 25 days of vacation a year and may carry over 40; unused sick leave is paid "
                "at a quarter of its value on retirement.",
                "<b>New standards.</b> The standard on compensated absences will be applied in 2025 and is "
                "expected to raise liabilities by about $480,000. The standard on subscription software was "
                "applied in 2023 and had no effect that matters. <b>Estimates</b> are needed for pension and OPEB "
                "liabilities, for unbilled water and for the lives of assets; outcomes may differ.",
            ),
            Heading(2, "Note 2. Cash and investments"),
            Table(
                "38",
                "Cash and investments, June 30, 2024",
                "fair value in thousands; average time to maturity in years",
                ("Kind", "Amount", "Maturity", "Rating", "Level"),
                [*(Row(line) for line in holdings), Row(("Total", f"{held:,}", "", "", ""), "total")],
                "lrrcc",
            ),
            *prose(
                "Of the total, $13,841,000 is cash and cash equivalents, $39,900,000 investments and $11,250,000 "
                "restricted. State law and the Board's policy allow no security with more than five years to run, "
                "no more than 30 percent in corporate notes and no more than 5 percent with one issuer other than "
                "the U.S. Treasury and federal agencies. Bank deposits above the insured $250,000 are backed by "
                "securities worth 110 percent, held by the bank's agent in the district's name. If interest rates "
                "rose by one percentage point, the value of the portfolio would fall by about $840,000. The pool "
                "is run by the county treasurer, is not registered, and paid 3.61 percent on average in 2024, "
                "against 2.27 percent the year before.",
                "Restricted investments are the bond reserve of $7,060,000, $3,205,000 of grants received for "
                "capital works and not yet spent, and $985,000 kept for the payments of principal and interest of "
                "December and June. The earnings of the bond reserve belong to the district and were $318,000 in "
                "2024. Unspent proceeds of the Series 2021 bonds, $2,690,000 a year before, were used up in "
                "September 2023.",
                "Fair values of Level 1 are taken from prices in active markets on June 30 and those of Level 2 "
                "from models that use the prices of similar securities. The district holds nothing of Level 3 and "
                "has lent out none of its securities.",
            ),
        ],
    )


def notes_capital_assets_and_debt() -> Page:
    # Cost at the beginning of the year, additions, works completed, disposals.
    classes = {
        "Land and easements": (14_260, 0, 0, 0),
        "Works under construction": (42_318, 33_560, -17_904, 0),
        "Dams and reservoirs": (68_940, 0, 0, 0),
        "Treatment plants": (151_275, 0, 1_906, 0),
        "Mains and services": (318_460, 3_286, 7_075, 0),
        "Tanks and pump stations": (74_815, 0, 8_923, -318),
        "Meters, vehicles and equipment": (46_390, 1_560, 0, -886),
        "Right-of-use assets": (1_820, 790, 0, 0),
    }
    lines = [Row((name, *map(amount, values), amount(sum(values)))) for name, values in classes.items()]
    sums = [sum(column) for column in zip(*classes.values(), strict=True)]
    start, end = sums[0] - capital_assets(2023), sum(sums) - capital_assets(2024)
    depreciation, disposed = flow("Depreciation and amortization", 2024), -sums[3] - book_value_disposed(2024)
    assert sums[2] == 0
    assert start + depreciation - disposed == end
    issues = [
        Row(
            (
                d.name,
                str(d.issued),
                f"{d.original:,}",
                f"{d.rate * 100:.2f}",
                str(d.last_year),
                f"{d.outstanding:,}",
                f"{d.principal[2025]:,}",
            )
        )
        for d in DEBT
    ]
    sums_of_debt = (
        f"{sum(d.original for d in DEBT):,}",
        "",
        "",
        f"{balance('Bonds and loans', 2024):,}",
        f"{current_principal(2024):,}",
    )
    return Page(
        "Notes to the financial statements",
        [
            Heading(2, "Note 3. Capital assets"),
            Table(
                "39",
                "Capital assets, fiscal year 2024",
                "in thousands",
                ("", "July 1, 2023", "Additions", "Completed", "Disposals", "June 30, 2024"),
                [
                    *lines,
                    Row(("Cost", *map(amount, sums), amount(sum(sums))), "total"),
                    Row(
                        (
                            "Less depreciation",
                            amount(-start),
                            amount(-depreciation),
                            "-",
                            amount(disposed),
                            amount(-end),
                        )
                    ),
                    Row(
                        (
                            "Capital assets, net",
                            amount(capital_assets(2023)),
                            amount(sums[1] - depreciation),
                            "-",
                            amount(sums[3] + disposed),
                            amount(capital_assets(2024)),
                        ),
                        "total",
                    ),
                ],
                "lrrrrr",
            ),
            *prose(
                "Additions of $39,196,000 are the cash outlay of $35,120,000, contributed mains of $3,286,000 and "
                "one new lease of $790,000. The largest works still under construction are the Ansel filters, the "
                "ozone system and advanced metering. Depreciation of $14,218,000 includes $231,000 of amortization "
                "of leased assets. The sections of the Weir Street main that broke had been written off in full by "
                "2013, so that no impairment is recorded.",
            ),
            Heading(2, "Note 4. Long-term debt"),
            Table(
                "40",
                "Bonds and loans, June 30, 2024",
                "amounts in thousands",
                (
                    "Issue",
                    "Issued",
                    "Original\namount",
                    "Rate\n(percent)",
                    "Last\npayment",
                    "Outstanding",
                    "Due in\n2025",
                ),
                [*issues, Row(("All issues", "", *sums_of_debt), "total")],
                "lrrrrrr",
            ),
            *prose(
                "Bonds pay principal on June 1 and interest on June 1 and December 1. All are secured by the net "
                "revenues of the system and by nothing else; neither the assets nor the power to tax are pledged. "
                "The <b>Series 2012</b> bonds paid for the expansion of the distribution system toward Larkspur "
                "Flats. The <b>Series 2016</b> bonds refunded those of 2006 and saved $7.4 million of debt "
                "service; the loss on that refunding is written off through 2032. The <b>Series 2021</b> bonds, "
                "sold in May 2021 as green bonds, pay for the Ansel filters, the ozone system and meters; all of "
                "their proceeds had been spent by September 30, 2023.",
                "The state revolving fund loans are two: loan 18-044, fully drawn in 2019, of which $4,485,000 is "
                "left, and loan 22-017 for cast iron mains, authorized at $12,000,000, of which $4,180,000 was "
                "drawn in 2023 and $6,240,000 in 2024. The last $1,580,000 is expected in 2025. The rate shown is "
                "the average of the two.",
                "The district has promised to set rates that yield net revenue of at least 1.25 times the debt "
                "service of each year and to keep $7,060,000 with the trustee, Harrow and Stell Trust. Both "
                "promises were kept. Series 2012 may be called at par since June 1, 2022 and Series 2021 from June "
                "1, 2031. There is a line of credit of $10 million, unused, which ends on March 31, 2026 and costs "
                "0.28 percent a year.",
            ),
        ],
    )


def notes_debt_schedule() -> Page:
    lines = []
    for first, last in DEBT_PERIODS:
        years = range(first, last + 1)
        by_series = [sum(series.principal.get(year, 0) for year in years) for series in DEBT]
        interest = sum(series.interest.get(year, 0) for series in DEBT for year in years)
        label = str(first) if first == last else f"{first} to {last}"
        lines.append((label, *by_series, sum(by_series), interest, sum(by_series) + interest))
    sums = [sum(column) for column in zip(*(line[1:] for line in lines), strict=True)]
    printed = [Row((line[0], *map(amount, line[1:]))) for line in lines]
    changes = (
        ("Bonds", "132,870", "-", "(5,420)", "127,450", "6,912"),
        ("State revolving fund loans", "10,665", "6,240", "(2,000)", "14,905", "620"),
        ("Bond premium", "7,680", "-", "(640)", "7,040", "640"),
        ("Leases", "812", "790", "(208)", "1,394", "226"),
        ("Compensated absences", "2,104", "1,486", "(1,372)", "2,218", "1,240"),
        ("Net pension liability", "27,340", "-", "(1,238)", "26,102", "-"),
        ("Net OPEB liability", "7,905", "-", "(217)", "7,688", "-"),
    )
    return Page(
        "Notes to the financial statements",
        [
            Heading(2, "Note 4, continued. Debt service to maturity"),
            Table(
                "41",
                "Debt service by fiscal year",
                "in thousands",
                (
                    "Fiscal year",
                    "Series\n2012",
                    "Series\n2016",
                    "Series\n2021",
                    "State\nloans",
                    "All\nprincipal",
                    "Interest",
                    "Principal\nand interest",
                ),
                [*printed, Row(("Total", *map(amount, sums)), "total")],
                "lrrrrrrr",
            ),
            *prose(
                "Each issue is repaid in nearly equal yearly sums of principal and interest,<super>1</super> so "
                "that the share of principal grows. After the last payment on the Series 2012 bonds, in 2030, "
                f"yearly debt service falls by about {millions(DEBT[0].principal[2028] + DEBT[0].interest[2028])}. "
                "The schedule does not include the bond that the capital plan foresees for 2027, nor the part of "
                "loan 22-017 that had not been drawn.",
            ),
            Heading(2, "Note 5. Changes in long-term liabilities"),
            Table(
                "42",
                "Changes in long-term liabilities, fiscal year 2024",
                "in thousands",
                ("", "July 1, 2023", "Additions", "Reductions", "June 30, 2024", "Due within\none year"),
                [Row(line) for line in changes],
                "lrrrrr",
            ),
            Heading(2, "Note 6. Leases"),
            *prose(
                "<b>As tenant</b>, the district leases a materials yard on Basalt Road to 2031, eleven copiers, "
                "and since March 1, 2024 a second floor at 412 Weir Street, next to its own office, for the staff "
                "of engineering. That lease runs for seven years, with a choice to renew for three, and was "
                "recorded at $790,000 with a discount rate of 3.8 percent. Lease principal paid was $208,000 and "
                "lease interest $34,000. Payments due are $276,000 in 2025, $270,000 in each of 2026 and 2027, "
                "$241,000 in 2028, and $512,000 after that; these sums include interest of $175,000.",
                "<b>As landlord</b>, the district leases space on five tanks and one tower to three mobile "
                "telephone companies, and 61 acres of pasture below Ansel Dam to a grazing cooperative. The leases "
                "have between two and fourteen years to run. Revenue of $742,000 includes $96,000 of interest and "
                "$118,000 of pasture rent that varies with the price of hay and is not part of the lease "
                "receivable. The lease at Signal Hill, which brought $88,000, was not renewed when it ended on May "
                "31, 2024, because the repaired roof can't carry the masts.",
            ),
            Heading(2, "Note 7. Deferred compensation"),
            *prose(
                "Employees may put part of their pay in a plan under section 457 of the tax code. The district "
                "adds one percent of pay for those who give at least two, which cost $168,000 in 2024. The money "
                "is held in trust for the employees and does not appear in these statements. On June 30, 2024, 201 "
                "employees took part, with balances of $22.6 million together.",
            ),
        ],
        footnotes=(
            "Bonds are shown at their face value in both tables. The premium is written off over the life of "
            "each issue and lowers interest expense.",
        ),
    )


def notes_pension() -> Page:
    assert balance("Net pension liability", 2024) == 118_640 - 92_538
    liability = (
        ("Total pension liability, beginning", "115,872", "110,745", "105,310"),
        ("  Service cost", "2,946", "2,861", "2,704"),
        ("  Interest", "7,812", "7,462", "7,115"),
        ("  Differences from experience", "(1,406)", "1,120", "1,890"),
        ("  Changes of assumptions", "-", "-", "-"),
        ("  Benefit payments", "(6,584)", "(6,316)", "(6,274)"),
        ("Total pension liability, end", "118,640", "115,872", "110,745"),
        ("Plan net position, beginning", "88,532", "86,930", "85,850"),
        ("  Employer contributions", "4,312", "4,066", "3,841"),
        ("  Employee contributions", "1,894", "1,811", "1,740"),
        ("  Net investment income", "4,519", "2,173", "1,902"),
        ("  Benefit payments and costs", "(6,719)", "(6,448)", "(6,403)"),
        ("Plan net position, end", "92,538", "88,532", "86,930"),
        ("Net pension liability, June 30", "26,102", "27,340", "23,815"),
    )
    kinds = {0: "total", 6: "total", 7: "total", 12: "total", 13: "total"}
    sensitivity = (
        ("Net pension liability", "5.80%", "41,275", "6.80%", "26,102", "7.80%", "13,486"),
        ("Net OPEB liability", "4.25%", "8,764", "5.25%", "7,688", "6.25%", "6,791"),
    )
    return Page(
        "Notes to the financial statements",
        [
            Heading(2, "Note 8. Pension and other benefits after retirement"),
            *prose(
                "Regular employees belong to the Orrin County Employees' Retirement Plan, which covers twelve "
                "employers and is run by a board of nine. Those hired before January 1, 2013 earn 2.0 percent of "
                "final pay for each year of service and may retire at 55; those hired later earn 1.8 percent and "
                "may retire at 62. Employees pay 7.25 percent of their pay; the district paid 16.5 percent in 2024 "
                "and 16.0 percent in 2023. Of the plan's members on December 31, 2023, 259 were working for the "
                "district, 241 were retired or survivors, and 88 had left with a right to a pension.",
            ),
            Table(
                "43",
                "Changes in the net pension liability",
                "in thousands; years ended June 30, measured at the December 31 before",
                ("", "2024", "2023", "2022"),
                [Row(line, kinds.get(index, "plain")) for index, line in enumerate(liability)],
                "lrrr",
            ),
            *prose(
                f"On June 30, 2024 the plan's net position was {share(92_538, 118_640)} percent of the total "
                f"pension liability, after {share(88_532, 115_872)} percent in 2023 and {share(86_930, 110_745)} "
                "percent in 2022. The liability was computed with a discount rate of 6.80 percent, the same as in "
                "the two years before, inflation of 2.50 percent, and pay growing by 3.25 percent a year. The "
                "discount rate is the return expected of the plan's investments: 44 percent stocks, 26 percent "
                "bonds, 14 percent real estate, 12 percent private markets and 4 percent cash. Pension expense was "
                "$3,385,000 in 2024.",
            ),
            Table(
                "44",
                "How the liabilities depend on the discount rate, June 30, 2024",
                "in thousands",
                ("", "One point\nlower", "Amount", "Rate\nused", "Amount", "One point\nhigher", "Amount"),
                [Row(line) for line in sensitivity],
                "lrrrrrr",
            ),
            *prose(
                "<b>Other benefits (OPEB).</b> Employees who retire after ten years of service may stay in the "
                "health plan until they are 65, and the district pays $310 a month toward it. The benefit is "
                "closed to those hired after June 30, 2016. It is paid as it falls due, with a trust opened in "
                "2010 that held $5,466,000 on June 30, 2024. The liability assumes that the cost of medical care "
                "grows by 6.5 percent in 2025, falling to 4.5 percent by 2033; one point more of growth would not "
                "change it, since the payment is fixed. In 2024, 63 retirees received the benefit. OPEB expense "
                "was $402,000, and contributions, with the interest of the trust, exceeded it.",
                "<b>Deferred items.</b> Outflows of $7,436,000 are $4,128,000 of contributions made after the "
                "measurement date and other pension items, $2,571,000 of investment losses to be recognized "
                "through 2028 and $737,000 of OPEB items. Inflows of $2,415,000 are mainly gains from experience. "
                "Apart from the contributions, the items will raise expense by about $600,000 a year through 2027.",
            ),
        ],
    )


def notes_commitments() -> Page:
    return Page(
        "Notes to the financial statements",
        [
            Heading(2, "Note 9. Commitments and contingencies"),
            *prose(
                "<b>Construction.</b> On June 30, 2024 the district had signed contracts for $27.3 million of work "
                "not yet done, of which $10.9 million is for the spillway and $6.2 million for the Ansel filters. "
                "Retainage of $2,036,000 on finished work is included in accounts payable.",
                "<b>Purchased water.</b> The fixed payments to the Norvale Regional Aqueduct Authority come to "
                "$558,000 a year until the contract ends in 2031. They are due even if no water is taken. If "
                "another member failed to pay, the district would have to take over its part of that share, at "
                "most 25 percent more than its own; this has not happened since the Authority was formed in 1968.",
                "<b>The Copperline matter.</b> On August 3, 2022 the Copperline Mutual Water Association sued the "
                "district in the county court, claiming that the wholesale demand charge counts the cost of the "
                "Hollis Creek Plant, from which Copperline receives no water. It asks for $612,000 and a new "
                "calculation. The court ruled for the district on two of five counts on December 5, 2023. The "
                "trial of the other three is set for February 2025. Counsel can't say how it will end; no "
                "liability is recorded.",
                "<b>The Weir Street break.</b> Forty-three claims were received under the law on inverse "
                "condemnation. All but two had been settled by October 11, 2024, for $389,000 together. The two "
                "that remain ask for $145,000; $60,000 has been recorded for them.",
                "<b>PFAS.</b> The district may have to bear part of the cost of cleaning the ground on Basalt "
                "Road, half an acre of which it bought from the county in 1988. No amount can be estimated.",
                "<b>Grants</b> may be audited by those who gave them. One audit, of a federal grant of 2021 for "
                "generators, was closed in 2024 and disallowed $7,200.",
            ),
            Heading(2, "Note 10. Risk management"),
            *prose(
                "The district belongs to the Foothill Utilities Risk Pool with 46 other utilities. The pool pays "
                "losses above the district's retention: $250,000 for property, $500,000 for liability and $150,000 "
                "for the injury of an employee. Liability is covered up to $35 million and property up to its "
                "replacement value, except for earthquakes, which are covered up to $20 million with a deductible "
                "of 5 percent. Dams are not covered for earthquakes. Insurance against attacks on computers, $3 "
                "million, was bought for the first time on January 1, 2024. No loss of the last three years was "
                "larger than the coverage.",
                "Claims incurred, including those not yet reported, are recorded from a yearly study. The "
                "liability was $1,144,000 on June 30, 2024, $968,000 in 2023 and $1,021,000 in 2022, and stands "
                "among accounts payable. During 2024 new claims added $603,000 and payments took away $427,000.",
            ),
            Heading(2, "Note 11. Transactions with related parties"),
            *prose(
                "The district sold $41,000 of water, at the rates that everyone pays, to firms of which a director "
                "or a manager is an owner. It paid $558,000 of fixed charges and $404,000 for water to the Norvale "
                "Authority. It had no other dealings with directors, managers or their families beyond pay, "
                "benefits and the lease from which Director Corrigane abstained.",
            ),
            Heading(2, "Note 12. Events after the end of the year"),
            *prose(
                "On July 30, 2024<super>1</super> the Board awarded the second contract for the Ansel filters for "
                "$8,455,000. On August 19, 2024 the district received the first payment, of $214,000, from the "
                "PFAS settlements. On September 24, 2024 the State offered a loan of $9.0 million, a third of it "
                "to be forgiven, for the treatment at Dunmore; the Board accepted on October 8. In the election of "
                "November 5, 2024, after the date of the auditor's letter and added here for readers, Directors "
                "Arkwright-Li and Corrigane were elected again and Director Prewittson, who did not run, was "
                "followed by Clement Vargason.",
            ),
        ],
        footnotes=(
            "Events were considered through the date of the auditor's letter, except where the note says otherwise.",
        ),
    )


def energy() -> Page:
    used = [sum(values[i] for values in ENERGY.values()) for i in range(5)]
    supplied = [total(SUPPLY, year) for year in FIVE_YEARS]
    table = [
        *rows(ENERGY, "All electricity"),
        Row(("  of which made by the district", *(f"{value:,}" for value in RENEWABLE))),
        Row(
            (
                "kWh per million gallons supplied",
                *(f"{mwh * 1000 / mg:,.0f}" for mwh, mg in zip(used, supplied, strict=True)),
            )
        ),
        Row(("Cost of purchased electricity, $ thousands", *(f"{cost:,}" for cost in ELECTRICITY_COST))),
        Row(
            (
                "Cents per purchased kWh",
                *(
                    f"{c / (mwh - own) * 100:.1f}"
                    for c, mwh, own in zip(ELECTRICITY_COST, used, RENEWABLE, strict=True)
                ),
            )
        ),
    ]
    fuels = (
        ("Gasoline, gallons", "71,400", "68,950", "66,120"),
        ("Diesel, vehicles, gallons", "48,300", "47,810", "46,540"),
        ("Diesel, generators, gallons", "5,120", "4,870", "11,960"),
        ("Natural gas, therms", "63,700", "66,900", "61,850"),
        ("Electric vehicles, number", "6", "11", "19"),
        ("Greenhouse gases, tons of CO2", "13,610", "12,740", "11,890"),
    )
    return Page(
        "Energy",
        [
            Heading(1, "Energy"),
            *prose(
                f"Water is heavy, and the district lifts much of it. It used {used[4]:,} megawatt-hours of "
                f"electricity in 2024, {percent(used[4], used[3])} less than in 2023, about as much as 4,400 homes "
                "of the valley. Nearly half drives the pumps of the distribution system. The two plants use about "
                "nine thousand each, and for the second year the smaller one used more: Hollis Creek must lift its "
                "filtered water 96 feet, where Ansel's flows by itself, and tests of the ozone generators took 410 "
                "megawatt-hours between March and June.",
            ),
            Table(
                "45",
                "Electricity by use, five years",
                "in megawatt-hours unless a line says otherwise",
                ("", *map(str, FIVE_YEARS)),
                table,
                "lrrrrr",
            ),
            *prose(
                "The price fell for the first time since 2019, because a new tariff of October 2023 rewards "
                "pumping at night. By filling tanks between 10 in the evening and 6 in the morning the district "
                "moved 31 percent of its pumping into the cheapest hours, from 22 percent. Purchased electricity "
                f"cost {dollars(ELECTRICITY_COST[4])}, of which {dollars(3_905)} is recorded under power and "
                "pumping and the rest under treatment and administration.",
            ),
            Heading(2, "Making our own"),
            *prose(
                f"Panels on the roofs and reservoirs made {RENEWABLE[4]:,} megawatt-hours, half as much again as in "
                "2023. The largest set, 1.9 megawatts on the cover of the Weir Street tanks, was finished in 2022. "
                "The floating pilot on Upper Tamarack (C-131) added 0.8 megawatts on March 19, 2024 for a first "
                "half and will reach 1.6 in October. It made 4 percent more in its first spring than the same "
                "panels on land beside it, because the water keeps them cool; gulls cost it about one percent.",
                "A turbine in the main from Upper Tamarack, where 190 feet of pressure are thrown away in a valve, "
                "has been studied three times. The last study, of February 2024, puts its cost at $5.6 million and "
                "its yield at 2,900 megawatt-hours a year. It scored 44 points and is not in the plan.",
            ),
            Heading(2, "Fuel and emissions"),
            Table(
                "46",
                "Fuels, vehicles and emissions",
                "fiscal years",
                ("", "2022", "2023", "2024"),
                [Row(line) for line in fuels],
                "lrrr",
            ),
            *prose(
                "The generators burned more than twice as much as usual: three days of ice in January and five of "
                "planned outages at Hollis Creek. Emissions have fallen by 27 percent since the base year 2015; "
                "the aim is 40 percent by 2030. Two electric trucks with cranes, ordered in 2022, were sent back "
                "in April 2024 because they could not work a full day of valve turning in the cold.",
            ),
        ],
    )


def staffing_and_safety() -> Page:
    staff = [
        Row((name, *map(str, values), *extra))
        for (name, values), extra in zip(
            STAFF.items(), (("105", "4"), ("58", "3"), ("37", "1"), ("32", "3"), ("28", "2"), ("16", "-")), strict=True
        )
    ]
    sums = [sum(column) for column in zip(*STAFF.values(), strict=True)]
    staff.append(Row(("All departments", *map(str, sums), "276", "13"), "total"))
    safety = [
        Row(("Hours worked, thousands", *map(str, HOURS_WORKED))),
        Row(("Recordable cases", *map(str, RECORDABLE_CASES))),
        Row(("Cases per 200,000 hours", *(f"{recordable_rate(year):.1f}" for year in FIVE_YEARS))),
        Row(("Cases with lost time", *map(str, LOST_TIME_CASES))),
        Row(("Days lost", *map(str, LOST_DAYS))),
        Row(("Vehicle collisions", *map(str, VEHICLE_COLLISIONS))),
        Row(("Training, hours", *(f"{hours:,}" for hours in TRAINING_HOURS))),
    ]
    return Page(
        "Staffing and safety",
        [
            Heading(1, "Staffing and safety"),
            *prose(
                f"On June 30, 2024 the district had {sums[2]} employees in {sums[2] + 13} positions. Twenty-four "
                "people joined during the year and twenty left: eleven retired, seven resigned, one was dismissed "
                "and one, the storekeeper Wendeline Achterberg, died in service after 29 years. The average "
                "employee is 46 years old and has been here for 11.4 years. Sixty-eight could retire within three "
                "years, more than half of them operators and mechanics.",
            ),
            Table(
                "47",
                "Employees by department, June 30",
                "people; last two columns: positions in the budget of 2024 and vacancies",
                ("Department", "2022", "2023", "2024", "Positions", "Vacant"),
                staff,
                "lrrrrr",
            ),
            *prose(
                "To replace them the district began an apprenticeship with Ansel Community College in September "
                "2022. Of its first nine apprentices, seven passed the second-grade examination in May 2024 and "
                "were hired; a second class of ten began in September 2023, and four of the ten are women. "
                "Apprentices are paid 70 percent of an operator's wage at first and 85 percent after a year, and "
                "are not counted in the table.",
                "Two unions represent 188 employees. The agreement with the larger, Valley Waterworkers Local 88, "
                "was signed on August 8, 2023, nine weeks after the old one had ended, and runs to June 30, 2027; "
                "it raised pay by 4.0 percent in 2024 and 3.5 percent in each of the next three years. That with "
                "the Association of District Professionals, 46 members, ends on December 31, 2025. Overtime came "
                "to 21,900 hours, of which 3,150 were worked in the nine days after the Weir Street break.",
            ),
            Heading(2, "Safety"),
            Table("48", "Safety, five years", "fiscal years", ("", *map(str, FIVE_YEARS)), safety, "lrrrrr"),
            *prose(
                "Seven people were hurt badly enough for the case to be recorded, one fewer than in 2023. Two lost "
                "time: a mechanic who fell from a ladder at Signal Hill on October 26 (31 days) and a surveyor "
                "bitten by a dog (7 days). The rate, 2.7, compares with 4.4 for water utilities of the State. No "
                "employee or contractor has been killed at work since 1983.",
                "Trench boxes are now carried on every crew truck, after an inspection in July 2023 found two of "
                "fifteen trenches unshored; no citation was issued. A drill on February 22, 2024 practiced a leak "
                "of chlorine at the Ansel Plant with the fire departments of Port Ansel and Hollis Creek: the "
                "building was empty in 6 minutes, but a siren on the east side could not be heard over the "
                "filters, and it was replaced in April. The Board's award for safety went to the night crew of the "
                "Hollis Creek Plant, with 1,460 days free of recordable cases.",
            ),
        ],
    )


def drought_plan() -> Page:
    stages = (
        ("Watch", "80", "74,040", "0", "none", "none"),
        ("Stage 1", "70", "64,785", "10", "3 days a week", "none"),
        ("Stage 2", "58", "53,679", "20", "2 days a week", "0.85"),
        ("Stage 3", "45", "41,648", "30", "1 day a week", "1.70"),
        ("Stage 4", "32", "29,616", "45", "forbidden", "3.40"),
    )
    history = (
        ("May 11, 2021", "Watch", "71,380", "dry spring"),
        ("Sep 14, 2021", "Stage 1", "58,905", "storage below 70 percent"),
        ("Jun 14, 2022", "Stage 2", "52,340", "surcharge from July 1, 2022"),
        ("Apr 11, 2023", "Stage 1", "78,900", "surcharge kept"),
        ("Nov 14, 2023", "Watch", "67,310", "surcharge kept"),
        ("Feb 13, 2024", "ended", "76,540", "surcharge ended"),
    )
    return Page(
        "Drought plan",
        [
            Heading(1, "The drought plan"),
            *prose(
                "The plan of 2016, revised in 2020, ties what customers are asked to do to one number: the water "
                "in the three reservoirs on the first of May, when the rains are over. Between the first of May "
                "and the first of November the General Manager may go one stage up without the Board; only the "
                "Board can come down.",
            ),
            Table(
                "49",
                "Stages of the drought plan",
                "storage on May 1 below the percent or acre-feet shown; reduction asked for in percent; "
                "surcharge in dollars per ccf of irrigation",
                ("Stage", "Percent of\ncapacity", "Acre-feet", "Reduction", "Watering of lawns", "Surcharge"),
                [Row(line) for line in stages],
                "lrrrrr",
            ),
            *prose(
                "<b>Watch</b> asks for nothing but attention: the district writes to the 500 largest users and "
                "looks over its wells. <b>Stage 1</b> forbids hosing of pavement, spray between 10 and 6 by day, "
                "and fountains that don't recirculate. <b>Stage 2</b> adds the surcharge, stops new turf at new "
                "buildings and has restaurants serve water on request. <b>Stage 3</b> forbids the filling of pools "
                "and the washing of cars except where the water is reused, and puts flow restrictors on homes that "
                "use more than 40 ccf a month after two warnings. <b>Stage 4</b>, never yet declared, keeps water "
                "for health, fire and the trees along streets, and gives each person 55 gallons a day.",
                "Hospitals, dialysis clinics and fire hydrants are exempt at every stage. Commercial growers of "
                "plants may choose a fifth less water instead of fixed days. A customer who is refused an "
                "exception can appeal to the Customers Committee; eleven did in 2023 and two in 2024.",
            ),
            Table(
                "50",
                "Declarations, 2021 to 2024",
                "storage in acre-feet at the time",
                ("Date", "Stage", "Storage", "Remark"),
                [Row(line) for line in history],
                "llrl",
            ),
            Heading(2, "What the last drought taught"),
            *prose(
                "Customers used 12 percent less under Stage 1 than in the same months of 2020, where 10 had been "
                "asked, and 16 percent less under Stage 2, where 20 had been asked. The shortfall was not in homes "
                "but in irrigation, where fixed days turned out to make people water longer. The staff's review of "
                "January 2024 proposes to replace days by a budget of water for each site, which the advanced "
                "meters can follow; the Board will take it up in 2025.",
                "Enforcement was mild: 2,118 letters, 164 fines of $50 to $200 and three restrictors over two and "
                "a half years. Fines came to $17,350 and were given to the fund that helps with bills. Half of all "
                "reports of waste came through the district's own telephone application, a fifth of them from "
                "eleven people.",
                "The plan's weakness is its date. In 2023 storage on May 1 was 90 percent, yet six weeks of heat "
                "in late summer brought it down by nearly 10,000 acre-feet. A second check, on the first of "
                "August, is among the changes proposed.",
            ),
        ],
    )


def emergencies() -> Page:
    paragraphs = (
        "<b>Four times during the year the district opened its emergency room</b>, on the ground floor at Weir "
        "Street, for more than eight hours. This account follows the log, which is kept by hand and by the minute. "
        "It was read before printing by those who were there.",
        "<b>The Bracken Ridge fire, August 27 to September 13, 2023.</b> Lightning lit the ridge above Sill Creek "
        "in the evening of August 27, a Sunday. By Tuesday the fire had burned 1,900 acres, a third of them in the "
        "watershed. Two employees living in cabins at the dam, keepers Ottoline Marsh and Joaquim Dell, were "
        "brought out by boat at 4:10 on Tuesday morning. The dam itself was never in danger; the power line to its "
        "gates was, and fell. The gates were then worked by hand for six days. Helicopters took 2.1 million "
        "gallons from Upper Tamarack. Rain on September 3 put the fire out and washed ash into the creek, and the "
        "Hollis Creek Plant treated the worst water of its life until September 13. A bale barrier across the "
        "north arm of the lake, bought after the Fennimore fire of 2018 and thought by some to be a waste, held "
        "back perhaps half of the ash.",
        "<b>Boil-water notice at Dunmore Bench, October 5 to 7, 2023.</b> A contractor boring for cable struck a "
        "6-inch main on Juniper Loop at 2:20 in the afternoon. Pressure was lost in 340 homes, and when it came "
        "back the chlorine in two samples was too low. The notice went out at 7:45 that evening, by telephone, by "
        "door hangers and, by mistake, to the whole of Quarry Hill as well. All samples proved clean and the "
        "notice was lifted at noon on October 7. The contractor, who had not asked for the pipes to be marked, "
        "paid $38,600.",
        "<b>The ice storm, January 13 to 16, 2024.</b> An inch and a half of ice brought down the lines to nine "
        "stations and, for seven hours, to the Ansel Plant. Eight stations ran on generators. The ninth, Larkspur "
        "Flats, had none, and the mobile set meant for it was on the far side of a fallen oak. The tank above the "
        "Flats held 2.0 million gallons when the power went and 0.3 when it came back 26 hours later. Nobody lost "
        "water, by a margin of about four hours. Director of Operations Noor Ellingsby asked the fifty largest "
        "users by telephone to stop, and forty-four did.",
        "<b>The Weir Street break, March 2 to 10, 2024.</b> At 1:52 in the morning of Saturday, March 2, the "
        "36-inch main of 1952 split along eleven feet of its length between Third and Fourth Streets. Pressure "
        "fell in all of the low zone. The first call came from a baker at 1:58. The operator on duty saw the flow "
        "leap to 44,000 gallons a minute and, having been told the year before not to trust that meter, waited "
        "nine minutes for a second reading. Of the eleven valves needed to close off the break, three could not be "
        "turned, so that a longer piece had to be closed; the flow was stopped at 5:36. Some 9 million gallons had "
        "run into the harbor by way of forty-three cellars and the lobby of the Orpheline Theater.",
        "About 14,200 customers had low pressure that morning and 2,350 had none. Most of these were on Dunmore "
        "Bench, nine miles away, because the pumps at Basalt Road draw from the same main and shut themselves "
        "down; the Bench was without water for 35 hours. Trucks of the county and of Brindle Fork gave out water "
        "at four schools. No boil-water notice was needed in Port Ansel. On the Bench one stood from Saturday noon "
        "to Monday at 5 in the afternoon.",
        "The pipe was bridged with 180 feet of new steel by the night of March 6 and the street was open again on "
        "March 10. Laboratory work found that the old steel had thinned from the outside, under a patch of coating "
        "torn when a gas line was laid above it in 1977. It was the seventh leak on that main since 1990, but the "
        "first that did not begin small.",
        "<b>What was done badly.</b> The operator's doubt about the meter cost about 400,000 gallons. Three valves "
        "that had been listed as good had not been turned since 2011. The message to customers gave a telephone "
        "number that was one digit wrong, and a florist in Norvale took some 200 calls before noon; the district "
        "has thanked her with a year of water, which she does not need, and a dinner, which she took. The list of "
        "people on dialysis at home was two years old. All four faults have been mended, and all valves of 20 "
        "inches and more are now to be turned every year.",
        "<b>A letter that was not from us.</b> On May 16, 2024 an employee of the finance department answered a "
        "false message in the name of a contractor and changed its bank account in our books. A colleague who "
        "telephoned the contractor, as the rules ask, found it out before any payment. No emergency was opened. "
        "Since June all such changes need two people and a call to a number already on file.",
        "<b>The year's cost.</b> The four events cost $1,684,000 together, of which two-thirds was the break. The "
        "State declared the ice storm a disaster, and $122,000 is expected from it.",
    )
    return Page(
        "Emergencies",
        [Heading(1, "Emergencies"), *(Paragraph(paragraph, COLUMN) for paragraph in paragraphs)],
        columns=2,
    )


def glossary() -> Page:
    terms = {
        "Acre-foot": "the water that covers an acre to a depth of one foot; 325,851 gallons.",
        "Action level": "the amount of lead or copper which, when more than a tenth of the sampled homes exceed "
        "it, obliges a utility to act.",
        "Accrual": "recording revenue when it is earned and expense when it is owed, whenever the money moves.",
        "Base use": "the use of the months January and February, taken to be what a customer uses indoors.",
        "ccf": "a hundred cubic feet, 748 gallons; the unit in which water is billed.",
        "Chloramine": "chlorine joined to ammonia, which lasts longer in the mains than chlorine alone.",
        "Contactor": "a tank built so that water stays with a disinfectant, such as ozone, for a known time.",
        "Coverage": "net revenue divided by the debt service of the same year.",
        "Cross-connection": "a link through which used water could flow back into the mains.",
        "Debt service": "principal and interest paid in a year on bonds and loans, but not on leases.",
        "Demand charge": "a charge for capacity kept ready, whether or not it is used.",
        "Enterprise fund": "the accounts of a public body that lives on charges for what it sells.",
        "Firm yield": "what a system can deliver each year through a repeat of its worst drought on record.",
        "Labyrinth weir": "a spillway folded like a fan, so that more water passes over it at the same height.",
        "Level": "where the value of an investment comes from: 1, prices of a market; 2, prices of like investments.",
        "mgd": "million gallons a day.",
        "ND": "not detected; less than the laboratory can measure.",
        "Net position": "what is left when liabilities and deferred inflows are taken from assets and deferred "
        "outflows.",
        "Net revenue": "operating revenue, taxes, investment earnings and rents, less operating expense before "
        "depreciation.",
        "Non-revenue water": "water supplied less water sold; the sum of leaks, meter error and use that is not "
        "billed.",
        "NTU": "nephelometric turbidity unit, a measure of cloudiness. Water of 5 NTU looks cloudy in a glass.",
        "OPEB": "other post-employment benefits: what retirees receive besides a pension, mainly toward health plans.",
        "Orthophosphate": "a salt, with zinc here, that coats pipes and keeps their metal out of the water.",
        "Peak day": "the day of the fiscal year with the highest supply.",
        "PFAS": "a family of man-made compounds that hardly break down; PFOA and PFOS are the two best known.",
        "Pressure zone": "the part of the system served from tanks of one height.",
        "Retainage": "the part of a contractor's pay, 5 percent here, held until the work is accepted.",
        "Running yearly average": "the average of the latest four quarters; the figure to which some limits apply.",
        "Surcharge": "an addition to the price of irrigation water from drought Stage 2 on.",
        "Tier": "a step of monthly use with a price of its own.",
        "Trihalomethanes": "compounds that form when chlorine meets the remains of leaves in water.",
        "Turbidity": "cloudiness, caused by particles; it shows how well filters work.",
        "Wheeling": "carrying one utility's water through the mains of another; the district does none.",
    }
    return Page(
        "Glossary",
        [Heading(1, "Glossary"), *items(*(f"<b>{term}</b> - {meaning}" for term, meaning in terms.items()))],
    )


def appendix_tables() -> Page:
    """Appendix A: ten years, with the older years from their own reports and the later ones from the tables above."""
    recent = range(2020, 2025)
    accounts = [*OLDER_ACCOUNTS, *(total(ACCOUNTS, year) for year in recent)]
    production = [*OLDER_PRODUCTION, *(total(SUPPLY, year) for year in recent)]
    break_rates = [*OLDER_BREAK_RATE, *(breaks(year) / MILES_OF_MAIN[year - 2015] * 100 for year in recent)]
    safety = [*OLDER_RECORDABLE_RATE, *(recordable_rate(year) for year in recent)]
    staff = [*OLDER_STAFF, *(sum(column) for column in zip(*STAFF.values(), strict=True))]
    bills = [*OLDER_BILL, *(monthly_bill(10, column) for column in range(3))]
    service, money, people = [], [], []
    for i, year in enumerate(TEN_YEARS):
        per_person = production[i] * 1e6 / POPULATION[i] / 365
        service.append(
            Row(
                (
                    str(year),
                    f"{POPULATION[i]:,}",
                    f"{accounts[i]:,}",
                    f"{MILES_OF_MAIN[i]:,.1f}",
                    f"{production[i]:,}",
                    f"{per_person:.0f}",
                    f"{PEAK_DAY[i]:.1f}",
                    f"{RAINFALL[i]:.1f}",
                )
            )
        )
        if year < 2022:
            revenue, expense, gain, debt, cover = (
                older[i] for older in (OLDER_REVENUE, OLDER_EXPENSE, OLDER_NET_CHANGE, OLDER_DEBT, OLDER_COVERAGE)
            )
        else:
            revenue, expense, gain = operating_revenue(year), operating_expense(year), change_in_net_position(year)
            debt, cover = balance("Bonds and loans", year), coverage(year)
        money.append(
            Row(
                (
                    str(year),
                    f"{revenue:,}",
                    f"{expense:,}",
                    f"{revenue - expense:,}",
                    f"{gain:,}",
                    f"{debt:,}",
                    f"{debt * 1000 / accounts[i]:,.0f}",
                    f"{cover:.2f}",
                )
            )
        )
        people.append(
            Row(
                (
                    str(year),
                    f"{bills[i]:.2f}",
                    str(staff[i]),
                    f"{accounts[i] / staff[i]:.0f}",
                    f"{safety[i]:.1f}",
                    f"{break_rates[i]:.1f}",
                )
            )
        )
    return Page(
        "Appendix A",
        [
            Heading(1, "Appendix A. Ten years in figures"),
            Table(
                "A-1",
                "Service and supply",
                "accounts, population and miles on June 30; supply in million gallons; peak day in mgd; rain in "
                "inches, July to June",
                (
                    "Year",
                    "Population",
                    "Accounts",
                    "Miles of\nmain",
                    "Water\nsupplied",
                    "Gallons a person\nand day",
                    "Peak day",
                    "Rain",
                ),
                service,
                "lrrrrrrr",
                size=7.8,
            ),
            Table(
                "A-2",
                "Finances",
                "in thousands, except debt for each account, in dollars, and coverage",
                (
                    "Year",
                    "Operating\nrevenue",
                    "Operating\nexpense",
                    "Operating\nincome",
                    "Change in\nnet position",
                    "Bonds and\nloans",
                    "Debt an\naccount ($)",
                    "Coverage",
                ),
                money,
                "lrrrrrrr",
                size=7.8,
            ),
            Table(
                "A-3",
                "Bills, employees, safety and breaks",
                "bill in dollars for 10 ccf a month; cases per 200,000 hours; breaks per 100 miles",
                ("Year", "Monthly\nbill", "Employees", "Accounts an\nemployee", "Recordable\ncases", "Main\nbreaks"),
                people,
                "lrrrrr",
                size=7.8,
            ),
            *notes(
                "Debt rose in 2017 and 2021 through the sale of the Series 2016 refunding bonds, delivered in July "
                "2016 together with new money, and of the Series 2021 bonds. Population for 2021 has been "
                "restated. Years before 2020 are as printed in the reports of those years. The series for breaks "
                "before 2020 counted mains of 4 inches and more, the later one all mains.",
            ),
        ],
    )


def appendix_methods() -> Page:
    return Page(
        "Appendix B",
        [
            Heading(1, "Appendix B. How the figures are made"),
            *prose(
                "<b>Population.</b> The county's estimate of homes lived in on January 1, times the persons per "
                "home of the last census (2.71 for single-family homes, 2.08 for apartments), brought forward to "
                "June 30 with the number of new accounts. The estimate is good to about two percent.",
                "<b>Water supplied.</b> The sum of the meters at the outlets of the two plants, at each well and "
                "at the Norvale connection. Outlet meters are compared with a portable meter twice a year and put "
                "right when they differ by more than 1.5 percent. The Hollis Creek meter read 1.9 percent high in "
                "November 2023; the figures for July to November were lowered accordingly, by 31 million gallons "
                "in all.",
                "<b>Water by reservoir.</b> Where a plant draws from two reservoirs, its output is divided in "
                "proportion to the raw water meters. Losses in treatment, about 1.2 percent, are spread in the "
                "same way.",
                "<b>Storage.</b> Read at midnight on the last day of each month from gauges in the intake towers "
                "and turned into acre-feet with the surveys of 2022 (Lake Ansel), 2014 (Upper Tamarack) and 2018 "
                "(Sill Creek). Storage below the lowest outlet, 2,900 acre-feet in all, is included.",
                "<b>Water sold.</b> Bills are read in 21 cycles. Use between the last reading and June 30 is "
                "estimated from the same days of the year before; with advanced meters it is measured. The part "
                "that is estimated fell from 4.8 percent of sales in 2023 to 2.1 percent in 2024.",
                "<b>Non-revenue water.</b> As in the manual used by the water utilities of the State. Meter error "
                "comes from a test of 240 meters drawn by lot each year, and water that is used but not billed "
                "from the records of the crews. What remains is called leaks, and bears the errors of all the "
                "rest; the band of uncertainty is 110 million gallons to either side.",
                "<b>Breaks.</b> A break is any failure of a main, joint or saddle that needs digging. Services and "
                "hydrants are not counted. Two failures within 30 feet and 48 hours are one break.",
                "<b>Typical bill.</b> A single-family home with the smallest meter that uses 10 ccf in every "
                "month, which is close to the median (9.6 ccf in 2024) but below the average (12.1 ccf). "
                "Surcharges and city taxes are left out. Neighbors' bills are computed from their published rates.",
                "<b>Quality averages.</b> Samples below the level of detection count as zero. Limits that apply to "
                "a running yearly average are compared with the highest such average at any one site.",
                "<b>Emissions.</b> The State's factors for electricity of the year before, 0.241 tons of carbon "
                "dioxide per megawatt-hour in this report, and the federal ones for fuels. Emissions of "
                "contractors, of chemicals on their way and of employees' travel to work are left out, except in "
                "the base year, when chemicals were included; without them, the fall since 2015 would be 24 "
                "percent and not 27.",
                "<b>Satisfaction.</b> The share of those asked who chose 4 or 5 on a scale of five. Those who "
                'answered "don\'t know", 3 percent, are left out. The survey of 2022 was taken in June instead of '
                "April.",
                "<b>Forecasts.</b> Normal weather is the average of 1994 to 2023. The elasticity of demand to "
                "price is taken to be -0.17 for homes and -0.25 for irrigation. Inflation is 2.8 percent in 2025 "
                "and 2.5 percent after that; building costs grow by 4 percent.",
                "<b>Rounding.</b> Percentages are computed before rounding, so that a reader who computes them "
                "from the printed figures may find a difference in the last digit.",
                "<b>Corrections.</b> Errors found after printing are listed at the counter and corrected in the "
                "next report. Readers found five in the report of 2023, two of which changed a figure by more than "
                "one percent and are described on page ii. Whoever finds the first error in this one is entitled, "
                "by custom, to a jar of honey from the hives at Brandreth Dam.",
            ),
        ],
    )


def report_pages() -> list[Page]:
    """All forty pages in order. The lists of contents and tables are made from the others."""
    body = [
        letter_from_the_chair(),
        at_a_glance(),
        governance_board(),
        governance_management(),
        supply_sources(),
        supply_storage(),
        supply_mix(),
        treatment_plants(),
        treatment_performance(),
        water_quality(),
        water_quality_lead_and_pfas(),
        distribution(),
        distribution_losses(),
        customers(),
        consumption(),
        rates(),
        rates_other(),
        capital_program(),
        capital_projects(),
        financial_review(),
        auditors_letter(),
        statement_of_net_position(),
        statement_of_revenues(),
        statement_of_cash_flows(),
        notes_policies_and_cash(),
        notes_capital_assets_and_debt(),
        notes_debt_schedule(),
        notes_pension(),
        notes_commitments(),
        energy(),
        staffing_and_safety(),
        drought_plan(),
        emergencies(),
        glossary(),
        appendix_tables(),
        appendix_methods(),
    ]
    contents: list[Flowable] = []
    tables: list[Flowable] = []
    for index, page in enumerate(body):
        label = page_label(FRONT_MATTER_PAGES + 1 + index)
        if page.image is not None:
            contents.append(Leader(page.chapter, label, 2, None))
        for position, block in enumerate(page.blocks):
            # Chapters, sections that open a page, and the notes; the bookmarks have every heading.
            if isinstance(block, Heading) and (block.level == 1 or position == 0 or block.title.startswith("Note ")):
                contents.append(Leader(block.title, label, block.level, f"h{block.level}-{block.title}"))
            if isinstance(block, Table):
                tables.append(Leader(f"{block.number}  {block.title}", label, 3, None))
    front = [Page("", image=draw_cover), about_this_report(), table_of_contents(contents), list_of_tables(tables)]
    return front + body
