"""Dated events, one line each: public facts in one style, told as news of their year."""

from __future__ import annotations

EVENTS = """
1850 California joins the United States as the thirty-first state.
1851 The Great Exhibition opens in a palace of glass in Hyde Park, London.
1853 American warships under Commodore Perry enter the bay of Edo in Japan.
1854 British, French and Turkish troops land in the Crimea and besiege Sebastopol.
1856 The Treaty of Paris ends the war between Russia and the western powers.
1857 Indian soldiers at Meerut rise against the East India Company.
1859 Charles Darwin publishes his book on the origin of species.
1860 Abraham Lincoln is elected President of the United States.
1861 Victor Emmanuel is proclaimed king of a united Italy.
1863 Union and Confederate armies fight for three days at Gettysburg.
1865 President Lincoln is shot in a theatre in Washington.
1866 A telegraph cable is laid across the Atlantic from Ireland to Newfoundland.
1867 Russia sells Alaska to the United States.
1869 The Suez Canal is opened to the ships of all nations.
1870 The French emperor surrenders to the Prussians at Sedan.
1871 A great fire destroys the middle of the city of Chicago.
1874 Painters in Paris show their works together and are called impressionists.
1876 Alexander Graham Bell receives a patent for the telephone.
1877 Thomas Edison records a voice on a cylinder wrapped in tin foil.
1879 British soldiers are defeated by the Zulus at Isandlwana.
1881 Tsar Alexander is killed by a bomb in Saint Petersburg.
1882 British troops occupy Egypt after the bombardment of Alexandria.
1883 The volcano Krakatoa explodes in the Dutch East Indies.
1885 General Gordon is killed when Khartoum falls to the Mahdi.
1886 The Statue of Liberty is unveiled in the harbour of New York.
1887 Queen Victoria celebrates fifty years on the throne.
1889 An iron tower by the engineer Eiffel opens in Paris.
1891 Work begins on a railway across Siberia.
1893 Women in New Zealand gain the right to vote.
1894 A French captain named Dreyfus is condemned for treason.
1895 Professor Roentgen discovers rays that pass through flesh.
1896 Athletes of many nations meet at the first modern Olympic Games in Athens.
1898 The American battleship Maine blows up in the harbour of Havana.
1899 War breaks out between Britain and the Boer republics in South Africa.
1900 Foreign legations in Peking are besieged by the Boxers.
1901 Marconi receives a wireless signal sent across the Atlantic.
1903 The brothers Wright fly a machine with an engine in North Carolina.
1904 Japanese ships attack the Russian fleet at Port Arthur.
1905 Norway ends its union with Sweden and chooses its own king.
1906 An earthquake and a fire lay San Francisco in ruins.
1907 Britain and Russia agree about their interests in Persia.
1909 Louis Bleriot crosses the English Channel in an aeroplane.
1910 Portugal becomes a republic and its young king flees.
1911 Roald Amundsen and his men reach the South Pole.
1912 The liner Titanic strikes an iceberg and sinks on her first voyage.
1913 Armies of the Balkan states take Adrianople from the Turks.
1914 The heir to the throne of Austria is murdered at Sarajevo.
1915 The steamer Lusitania is sunk by a German submarine.
1916 British and French armies attack along the river Somme.
1917 The Bolsheviks seize power in Petrograd.
1918 Germany signs an armistice in a railway carriage at Compiegne.
1919 Alcock and Brown fly across the Atlantic without a stop.
1920 The League of Nations holds its first meeting in Geneva.
1921 A treaty is signed in London to found the Irish Free State.
1922 The tomb of Tutankhamen is found in the Valley of the Kings.
1923 Germans need a wheelbarrow of paper marks to buy a loaf of bread.
1924 Lenin dies, and Petrograd is given his name.
1925 A teacher is tried in Tennessee for teaching evolution.
1926 A general strike stops work in Britain for nine days.
1927 Charles Lindbergh flies alone from New York to Paris.
1928 Women in Britain gain the vote on the same terms as men.
1929 Prices on the New York stock exchange collapse in October.
1930 Gandhi walks to the sea to make salt against the law.
1930 Astronomers in Arizona announce a ninth planet named Pluto.
1931 The Empire State Building is opened in New York.
1932 Franklin Roosevelt is elected president and promises a new deal.
1933 Adolf Hitler is appointed chancellor of Germany.
1935 Italian troops invade Ethiopia.
1936 Jesse Owens wins four gold medals at the Olympic Games in Berlin.
1937 The airship Hindenburg bursts into flames while landing in New Jersey.
1938 Chamberlain returns from Munich and speaks of peace for our time.
1939 German tanks cross the border of Poland, and Britain declares war.
1940 British soldiers are rescued by small boats from the beaches of Dunkirk.
1941 Japanese aircraft bomb the American fleet at Pearl Harbor.
1942 The Germans advance to the Volga and fight for every house in Stalingrad.
1944 Allied troops land on the beaches of Normandy.
1945 An atomic bomb destroys the city of Hiroshima.
1945 Fifty nations sign the charter of the United Nations in San Francisco.
1947 India and Pakistan become independent of Britain.
1948 The state of Israel is proclaimed in Tel Aviv.
1949 Mao Zedong proclaims the People's Republic of China in Beijing.
1950 North Korean troops cross the thirty-eighth parallel into the South.
1952 Doctors in the United States test a vaccine against polio.
1953 Watson and Crick describe the double helix of DNA.
1954 Roger Bannister runs a mile in less than four minutes.
1955 Rosa Parks refuses to give up her seat on a bus in Montgomery.
1956 Soviet tanks crush the uprising in Budapest.
1957 The Soviet Union launches Sputnik, the first artificial satellite.
1959 Fidel Castro enters Havana after the flight of Batista.
1961 Yuri Gagarin orbits the Earth in a spacecraft.
1961 East German soldiers build a wall through Berlin.
1962 Soviet missiles in Cuba bring the world close to nuclear war.
1963 President Kennedy is shot in an open car in Dallas.
1964 The Beatles appear on American television for the first time.
1966 Mao calls on young Red Guards to begin the Cultural Revolution.
1967 A surgeon in Cape Town transplants a human heart.
1968 Martin Luther King is shot on a balcony in Memphis.
1969 Neil Armstrong steps out of the lunar module onto the Moon.
1971 Intel sells a microprocessor on a single chip.
1973 Oil prices rise fourfold after an embargo by Arab states.
1974 President Nixon resigns because of the Watergate scandal.
1975 The last American helicopters leave Saigon as the Vietnam War ends.
1977 Cinemas show the first Star Wars film.
1978 The first baby conceived in a test tube is born in Oldham.
1979 The shah leaves Iran, and Ayatollah Khomeini returns from exile.
1981 The space shuttle Columbia makes its first flight.
1981 Doctors describe the first cases of the disease later called AIDS.
1982 Argentine forces land on the Falkland Islands.
1984 Apple introduces the Macintosh computer with a mouse.
1986 A reactor explodes at the nuclear power station of Chernobyl.
1987 Reagan and Gorbachev agree to scrap medium-range missiles.
1989 Crowds climb the Berlin Wall after the border is opened.
1990 Nelson Mandela walks free after twenty-seven years in prison.
1991 The Soviet Union is dissolved into fifteen states.
1993 A web browser called Mosaic makes the internet popular.
1994 South Africans of all races vote in a general election.
1996 Scientists in Scotland clone a sheep named Dolly.
1997 Britain hands Hong Kong back to China.
1998 Two students found a search engine company named Google.
1999 Eleven European countries adopt the euro as their currency.
2001 Hijacked airliners destroy the World Trade Center in New York.
2003 American troops enter Baghdad and topple a statue of Saddam Hussein.
2004 A student at Harvard starts a website named Facebook.
2005 Hurricane Katrina floods the city of New Orleans.
2007 Apple presents the iPhone, a smartphone with a touch screen.
2008 The bank Lehman Brothers collapses in a crisis of bad mortgages.
2008 Barack Obama is elected President of the United States.
2010 Protests in Tunisia begin what is called the Arab Spring.
2012 Physicists at CERN announce the discovery of the Higgs boson.
2014 Russia annexes the Crimea after unmarked troops seize it.
2016 Voters in Britain choose to leave the European Union.
2016 The computer program AlphaGo beats a champion of the game of Go.
2018 Students skip school on Fridays to protest against climate change.
2019 Astronomers publish the first image of a black hole.
2020 Governments order lockdowns to slow the spread of the coronavirus.
2020 Vaccines against Covid are approved within a year.
"""
